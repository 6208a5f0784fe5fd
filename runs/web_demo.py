"""A page to try a model on: it names pictures, explains itself, and keeps what people correct."""

import signal
from collections.abc import Callable, Mapping

from datasets.conversion.image_bytes import Photograph
from foundation.errors import InputError
from runs import answer_files, checks, classifiers, pictures, reading
from runs.answer_files import Answers
from runs.classifiers import OpenModel
from runs.classify import answered
from runs.explained import Explainer
from runs.options import WebDemoOptions
from serving import classifier
from serving.demo import server
from serving.demo.feedback import Feedback, LabelError
from serving.demo.page import Answer, Demo, Refused
from serving.demo.server import Server

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_NUM_CLASSES = 5
_NUM_EXAMPLES = 8
_BATCH_SIZE = 16


def serve(options: WebDemoOptions, say: Callable[[str], None] = print) -> None:
    """Serves the page until a signal ends it.

    Args:
      options: the model, and what the page has.
      say: gets lines for the screen, the page's address among them.

    Raises:
      InputError: see `prepare`.
    """
    prepared = prepare(options, say)
    if options.demo.host not in _LOOPBACK:
        say("Whoever reaches this machine over the network can use the page, and see its reports.")
    say(f"Open {prepared.address} in a browser. Ctrl-C ends it.")
    for number in (signal.SIGINT, signal.SIGTERM):
        # The server ends at these and then hands them on, which would end the script with an error.
        signal.signal(number, lambda *_: None)
    prepared.run()
    say("The page has ended.")


def prepare(options: WebDemoOptions, say: Callable[[str], None] = print) -> Server:
    """Opens the model and makes the page, ready to be served.

    Raises:
      InputError: no model, a file that is not there, or an address that can't be had; or the extra
        `demo` is not installed.
      OSError: a folder can't be read or made.
    """
    given = options.demo
    checks.web_demo(options)
    opened = classifiers.open_model(
        options.model, options.alone, options.temperature.temperature, say
    )
    try:
        explain = opened.explainer()
    except InputError as error:
        say(str(error))
        explain = None
    most_pixels = int(given.max_megapixels * 1e6)
    examples = pictures.find(given.examples, option="examples").pictures
    demo = Demo(
        answer=lambda data: _answer(data, opened, explain, most_pixels),
        table=lambda paths: _table(paths, opened, most_pixels),
        labels=list(zip(opened.classifier.labels, opened.labels, strict=True)),
        keep=_keeper(Feedback(given.feedback_dir), say) if given.feedback_dir else None,
        examples=examples[:_NUM_EXAMPLES],
        pages=server.pages(given),
        max_files=given.max_files,
    )
    return server.prepare(demo, given)


def _answer(data: bytes, opened: OpenModel, explain: Explainer | None, most_pixels: int) -> Answer:
    """What the model says of a picture's file; raises Refused."""
    encoded = _prepared(data, most_pixels)
    picture = reading.Picture("", encoded)
    ((picture, probabilities),) = answered(opened.classifier, [picture])
    if picture.problem:
        raise Refused("unreadable", reason=picture.problem)
    classes = classifier.likeliest(probabilities, opened.classifier.labels, _NUM_CLASSES)
    heat = explain([encoded])[0].overlay if explain else None
    return Answer(classes, heat)


def _keeper(feedback: Feedback, say: Callable[[str], None]) -> Callable[[bytes, str], int]:
    """`Feedback.add` with Refused for visitors, and the reason for who runs the page."""

    def keep(data: bytes, label: str) -> int:
        try:
            return feedback.add(data, label)
        except LabelError as error:
            raise Refused("no_label") from error
        except (InputError, OSError) as error:
            say(f"Warning: a picture could not be kept: {error}")
            raise Refused("not_kept") from error

    return keep


def _prepared(data: bytes, most_pixels: int) -> bytes:
    """A picture's file as training would have seen it; raises Refused."""
    try:
        photograph = Photograph(data)
        width, height = photograph.size
        if width * height <= most_pixels:
            return photograph.encode().data
    except ValueError as error:
        raise Refused("unreadable", reason=str(error)) from error
    raise Refused("too_large", megapixels=width * height / 1e6, most=most_pixels / 1e6)


def _table(paths: Mapping[str, str], opened: OpenModel, most_pixels: int) -> list[list[str]]:
    """The CSV of many pictures, by their names; see `answer_files.rows`."""
    answers, names = Answers(), {path: name for name, path in paths.items()}
    labels = opened.classifier.labels
    for batch in reading.batches(list(names), _BATCH_SIZE, most_pixels=most_pixels):
        for picture, probabilities in answered(opened.classifier, batch):
            named = reading.Picture(names[picture.path], b"", picture.problem)
            answers.add(named, probabilities, labels, _NUM_CLASSES)
    return answer_files.rows(answers)
