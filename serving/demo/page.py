"""The demo's page: a picture, many pictures, and the pages of evaluations."""

import csv
import dataclasses
import html
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image

from foundation.errors import missing_extra
from foundation.labels import printable
from serving.demo import words

# Read by Gradio when it is imported: nothing is counted anywhere.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
try:
    import gradio as gr
except ImportError as error:
    raise missing_extra("demo", "web_demo.py") from error

_NUM_CLASSES = 5
# Uploads are looked through so often, and deleted when they are so old; in seconds.
_CLEANED_EVERY, _KEPT_FOR = 3_600, 86_400
# Users who wait; further ones are told to come back.
_LONGEST_QUEUE = 64
# Visitors of whom Gradio keeps its components, some 60 kB each; of 10,000 unless it is told. No
# component here holds a state: who comes back later gets them anew.
_MOST_SESSIONS = 100
_HEAT_SIDE = 320  # pixels
CSS = """
.gradio-container { max-width: 1120px !important; margin: 0 auto !important; }
.gradio-container, .gradio-container main { width: 100% !important; }
footer { display: none !important; }
.tab-container[role=tablist], .tab-wrapper { flex-wrap: wrap; height: auto !important; }
.tab-container button[role=tab] { height: 2.2rem; }
.tab-container.visually-hidden { display: none !important; }
#classes .bar { height: .5rem !important; border-radius: 3px; }
#classes h2 { overflow-wrap: anywhere; }
#keep { align-self: flex-end; }
.page-frame iframe { width: 100%; height: 82vh; border: 0; background: white;
                     border-radius: 8px; }
.remark { opacity: .75; font-size: .9rem; }
.problem { border-left: 4px solid #d9622b; padding: .5rem .9rem; border-radius: 4px;
           background: color-mix(in srgb, #d9622b 12%, transparent); overflow-wrap: anywhere; }
"""


class Refused(ValueError):
    """A picture that is not answered, or not kept.

    Attributes:
      key: why, of `words`.
      values: what stands in its braces.
    """

    def __init__(self, key: str, **values: object):
        self.key, self.values = key, values
        super().__init__(f"{key} {values}")


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model says of a picture.

    Attributes:
      classes: (name, probability), likeliest first.
      heat: uint8 [H, W, 3], which places led to the likeliest; None where the model can't tell.
    """

    classes: Sequence[tuple[str, float]]
    heat: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Demo:
    """What the page shows, and whom it asks.

    Attributes:
      answer: the bytes of a picture's file → an answer; raises Refused.
      table: file name → path → rows of a CSV, the first of them its heading.
      labels: (name to show, label) of each class.
      keep: takes the bytes of a picture's file and its label, gives how many pictures have been
        kept, raises Refused; None where nothing is kept.
      examples: paths of pictures to try.
      pages: of `words`, report or comparison → where on this server a page is.
      max_files: most pictures of the table.
    """

    answer: Callable[[bytes], Answer]
    table: Callable[[Mapping[str, str]], list[list[str]]]
    labels: Sequence[tuple[str, str]]
    keep: Callable[[bytes, str], int] | None
    examples: Sequence[str]
    pages: Mapping[str, str]
    max_files: int


# In the browser's language.
I18N = gr.I18n(en=words.ENGLISH, fr=words.FRENCH)
THEME = gr.themes.Soft(
    primary_hue="blue",
    neutral_hue="slate",
    # None that would be fetched from elsewhere.
    font=["system-ui", "sans-serif"],
    font_mono=["system-ui", "sans-serif"],
)


def build(demo: Demo) -> gr.Blocks:
    """The page, not yet served."""
    with gr.Blocks(
        title="Slim Image Classifiers",
        analytics_enabled=False,
        delete_cache=(_CLEANED_EVERY, _KEPT_FOR),
    ) as blocks:
        blocks.state_session_capacity = _MOST_SESSIONS
        gr.Markdown("# " + I18N("title"))
        with gr.Tab(I18N("one")):
            _one_picture(demo)
        with gr.Tab(I18N("many")):
            _many_pictures(demo)
        for name, address in demo.pages.items():
            with gr.Tab(I18N(name)):
                # A page of ours runs its own script, and reaches nothing else here.
                gr.HTML(
                    f'<iframe src="{address}" sandbox="allow-scripts" title="{name}"></iframe>',
                    elem_classes="page-frame",
                )
    return blocks.queue(max_size=_LONGEST_QUEUE, api_open=False)


def _one_picture(demo: Demo) -> None:
    with gr.Row():
        with gr.Column():
            picture = gr.Image(
                label=I18N("picture"),
                type="filepath",
                sources=["upload", "clipboard", "webcam"],
                height=360,
                elem_id="picture",
            )
            # The file as it was sent, whatever is in it: Gradio would fail at what it can't open.
            # (Were it a class derived from Gradio's, that would write a file beside this one.)
            picture.preprocess = lambda payload: payload and payload.path
            problem = gr.HTML(visible=False, elem_id="problem")
            heat = gr.Image(
                label=I18N("heat"),
                interactive=False,
                visible=False,
                height=_HEAT_SIDE,
                buttons=["fullscreen", "download"],
                elem_id="heat",
            )
        with gr.Column():
            classes = gr.Label(
                label=I18N("classes"), num_top_classes=_NUM_CLASSES, elem_id="classes"
            )
            if demo.keep:
                _feedback(demo, picture)
            if demo.examples:
                gr.Examples([[path] for path in demo.examples], picture, label=I18N("examples"))
            gr.Markdown(I18N("privacy"), elem_classes="remark")

    def classify(path: str | None, request: gr.Request):
        hidden = gr.update(value=None, visible=False)
        if path is None:
            return None, hidden, hidden
        try:
            answer = demo.answer(_content(path))
        except Refused as error:
            return None, hidden, _problem(_said(request, error.key, **error.values))
        found = dict(answer.classes)
        shown = (
            hidden if answer.heat is None else gr.update(value=_larger(answer.heat), visible=True)
        )
        return found, shown, hidden

    picture.change(
        classify, picture, [classes, heat, problem], **_ASKED, show_progress_on=[classes]
    )


def _feedback(demo: Demo, picture: gr.Image) -> None:
    gr.Markdown(I18N("feedback"), elem_classes="remark")
    with gr.Row():
        label = gr.Dropdown(
            list(demo.labels),
            value=None,
            label=I18N("this_is"),
            allow_custom_value=True,
            scale=2,
            elem_id="label",
        )
        button = gr.Button(I18N("keep"), min_width=90, elem_id="keep")
    said = gr.Markdown(elem_id="kept")

    def keep(path: str | None, chosen: str | None, request: gr.Request) -> str:
        if path is None:
            return _said(request, "no_picture")
        try:
            data = _content(path)
            demo.answer(data)  # what can't be read is of no use to a training either
            count = demo.keep(data, chosen or "")
        except Refused as error:
            return _said(request, error.key, **error.values)
        return _said(request, "kept", label=printable(chosen), count=count)

    button.click(keep, [picture, label], said, **_ASKED)


def _many_pictures(demo: Demo) -> None:
    tables = tempfile.TemporaryDirectory()  # goes with the page
    taken = gr.File(label=I18N("files"), file_count="multiple", elem_id="files")
    button = gr.Button(I18N("classify"), variant="primary", elem_id="classify")
    problem = gr.HTML(visible=False, elem_id="problems")
    download = gr.DownloadButton(I18N("download"), visible=False, elem_id="download")
    table = gr.Dataframe(
        label=I18N("table"), visible=False, interactive=False, wrap=True, elem_id="table"
    )

    def classify(paths: list[str] | None, request: gr.Request):
        hidden = gr.update(value=None, visible=False)
        if not paths:
            return _problem(_said(request, "no_files")), hidden, hidden
        if len(paths) > demo.max_files:
            text = _said(request, "too_many", count=len(paths), most=demo.max_files)
            return _problem(text), hidden, hidden
        rows = demo.table(_by_name(paths))
        path = os.path.join(tempfile.mkdtemp(dir=tables.name), "answers.csv")
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        shown = gr.update(value={"headers": rows[0], "data": rows[1:]}, visible=True)
        return hidden, gr.update(value=path, visible=True), shown

    button.click(classify, taken, [problem, download, table], **_ASKED, show_progress_on=[table])


# One picture or batch at a time: the processors are busy with it, and not every runtime can do two.
_ASKED = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}


def _larger(heat: np.ndarray) -> Image.Image:
    """A picture as small as nets take it, large enough to be looked at."""
    image = Image.fromarray(heat)
    factor = max(1, _HEAT_SIDE * 2 / max(image.size))
    return image.resize([round(factor * side) for side in image.size], Image.Resampling.BICUBIC)


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as error:  # the page has been open for longer than uploads are kept
        raise Refused("gone") from error


def _by_name(paths: Sequence[str]) -> dict[str, str]:
    """Files by their names; those of the same name are numbered."""
    found: dict[str, str] = {}
    for path in paths:
        stem, suffix = os.path.splitext(os.path.basename(path))
        name, number = stem + suffix, 1
        while name in found:
            number += 1
            name = f"{stem} ({number}){suffix}"
        found[name] = path
    return found


def _said(request: gr.Request, key: str, **values: object) -> str:
    """A sentence in the language of who asks."""
    return words.of(request.headers.get("accept-language", ""))[key].format(**values)


def _problem(text: str):
    return gr.update(
        value=f'<div class="problem" role="alert">{html.escape(text)}</div>', visible=True
    )
