"""The demo's page in a browser: one server and one browser for all tests."""

import concurrent.futures
import csv
import io
import json
import os
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from foundation.errors import InputError
from runs import checks, web_demo
from runs.convert import convert
from runs.options import ConvertOptions, WebDemoOptions
from serving.demo import page, words
from serving.demo.feedback import Feedback, LabelError
from tests import tiny_net
from tests.conftest import ROOT
from tests.test_page import CHROMIUM, needs_chromium

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("gradio")
LABELS, NAMES = ("cat", "dog", "emu"), {"cat": "Cat, the", "dog": "Dog", "emu": "Émeu"}
# In millions; a picture of the camera has 2.8 million pixels and 0.07 million bytes.
MOST_PIXELS, MOST_BYTES = 3.0, 0.2
# Gradio's client says this of itself whenever an answer is complete.
GRADIO_S_NOTICE = "Method not implemented."


def silent(line):
    pass


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Pictures to upload, a report, and names of the classes."""
    place = tmp_path_factory.mktemp("demo")
    for i in range(tiny_net.NUM_PICTURES):
        (place / f"{i}.png").write_bytes(tiny_net.picture(i))
    (place / "broken.png").write_bytes(tiny_net.picture(0)[:300])
    Image.new("RGB", (2000, 2000)).save(place / "many_pixels.png")
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    Image.fromarray(noise).save(place / "many_bytes.png")
    for name in ("report", "comparison"):
        (place / f"{name}.html").write_text(f"<!doctype html><h1>The {name}</h1>")
    (place / "names.json").write_text(json.dumps(NAMES))
    return place


@pytest.fixture(scope="module")
def model(place):
    (place / "train").mkdir()
    return tiny_net.restored(tiny_net.train(place / "train", LABELS))


@pytest.fixture(scope="module")
def server(place, model):
    options = WebDemoOptions.of(
        model=str(place / "train"),
        category_names=str(place / "names.json"),
        port=0,
        examples=[str(place / "1.png")],
        report=str(place / "report.html"),
        comparison=str(place / "comparison.html"),
        feedback_dir=str(place / "feedback"),
        max_megapixels=MOST_PIXELS,
        max_megabytes=MOST_BYTES,
        max_files=4,
    )
    server = web_demo.prepare(options, silent)
    uploads = os.environ["GRADIO_TEMP_DIR"]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield server
    server.stop()
    thread.join(20)
    assert not os.path.exists(uploads)


@pytest.fixture(scope="module")
def browser(server):
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                *("--no-sandbox", "--disable-gpu"),
                *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
            ],
        )
        yield browser
        browser.close()


class Visit:
    """A page that a user has open; what it asked for and what its console got."""

    def __init__(self, browser, server, width=1000, locale="en-GB"):
        self.context = browser.new_context(
            viewport={"width": width, "height": 800}, locale=locale, accept_downloads=True
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.console, self.hosts = [], set()
        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        self.page.goto(server.address)
        self.page.wait_for_selector("#picture input[type=file]", state="attached")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()

    def upload(self, path, to="#picture"):
        self.page.set_input_files(f"{to} input[type=file]", path)

    def answer(self):
        """The likeliest class, once it is there."""
        return self.page.locator("#classes h2").inner_text()

    def open_tab(self, name):
        self.page.get_by_role("tab", name=name).click()

    def noise(self):
        return [line for line in self.console if line != GRADIO_S_NOTICE]


def expected(model, i):
    return NAMES[LABELS[tiny_net.probabilities(model, tiny_net.picture(i)).argmax()]]


@needs_chromium
@pytest.mark.parametrize(
    ("width", "locale", "tab", "title"),
    [
        (1280, "en-GB", "Many pictures", "What is in the picture?"),
        (400, "fr-FR", "Plusieurs images", "Que montre l'image ?"),
    ],
)
def test_a_picture_is_answered(browser, server, place, model, width, locale, tab, title):
    with Visit(browser, server, width, locale) as visit:
        page = visit.page
        assert page.locator("h1").inner_text() == title
        visit.upload(place / "2.png")
        assert visit.answer() == expected(model, 2)
        bars = page.locator("#classes").inner_text()
        share = tiny_net.probabilities(model, tiny_net.picture(2)).max()
        assert f"{100 * share:.0f}%" in bars and all(name in bars for name in NAMES.values())
        heat = page.locator("#heat img")
        heat.wait_for()
        assert heat.evaluate("image => image.decode().then(() => image.naturalWidth)") >= 300
        assert page.get_by_role("tab", name=tab).is_visible()
        root = "document.documentElement"
        assert page.evaluate(f"{root}.scrollWidth - {root}.clientWidth") == 0
        assert visit.noise() == []
        assert visit.hosts == {server.address.split("/")[2]}


@needs_chromium
def test_an_example_is_answered_and_a_dropped_picture(browser, server, place, model):
    drop = """([bytes]) => {
      const transfer = new DataTransfer();
      const file = new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"});
      transfer.items.add(file);
      const target = document.querySelector("#picture input[type=file]").parentElement;
      target.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
    }"""
    with Visit(browser, server) as visit:
        visit.page.evaluate(drop, [list(tiny_net.picture(0))])
        assert visit.answer() == expected(model, 0)
    with Visit(browser, server) as visit:
        visit.page.locator(".gallery-item, .gallery button").first.click()
        assert visit.answer() == expected(model, 1)
        assert visit.noise() == []


@needs_chromium
@pytest.mark.parametrize(
    ("locale", "name", "said"),
    [
        ("en-GB", "broken.png", "This file can't be read as a picture: damaged image"),
        ("fr-FR", "broken.png", "Ce fichier n'est pas une image lisible"),
        ("en-GB", "many_pixels.png", "This picture has 4 million pixels; 3 million are"),
    ],
)
def test_what_is_no_usable_picture_is_said_and_the_next_one_answered(
    browser, server, place, model, locale, name, said
):
    with Visit(browser, server, locale=locale) as visit:
        visit.upload(place / name)
        alert = visit.page.locator("#problem [role=alert]")
        assert said in alert.inner_text()
        visit.page.locator("#picture button[aria-label=Clear], #picture button[title=Clear]").or_(
            visit.page.locator("#picture .icon-button-wrapper button").last
        ).first.click()
        visit.page.wait_for_selector("#picture input[type=file]", state="attached")
        visit.upload(place / "0.png")
        assert visit.answer() == expected(model, 0)
        alert.wait_for(state="hidden")
        assert visit.noise() == []


@needs_chromium
def test_a_file_that_is_too_large_is_refused(browser, server, place):
    with Visit(browser, server) as visit:
        visit.upload(place / "many_bytes.png")
        visit.page.get_by_text("exceed").first.wait_for()


@needs_chromium
def test_many_pictures_become_a_table_and_a_csv(browser, server, place, model):
    with Visit(browser, server) as visit:
        visit.open_tab("Many pictures")
        page = visit.page
        page.click("#classify")
        page.get_by_text("Drop some pictures first.").wait_for()
        names = ("0.png", "broken.png", "many_pixels.png", "2.png")
        visit.upload([place / name for name in names], "#files")
        page.locator("#files").get_by_text("broken").first.wait_for()
        page.click("#classify")
        page.locator("#download").wait_for()
        with page.expect_download() as waiting:
            page.click("#download")
        assert waiting.value.suggested_filename == "answers.csv"
        rows = list(csv.DictReader(io.StringIO(waiting.value.path().read_text("utf-8"))))
        assert [row["filename"] for row in rows] == ["0.png", "2.png", *names[1:3]]
        assert [row["label"] for row in rows[:2]] == [expected(model, 0), expected(model, 2)]
        assert rows[2]["problem"].startswith("damaged image") and rows[2]["label"] == ""
        assert rows[3]["problem"] == "too many pixels: 2000 x 2000"
        shown = page.locator("#table").inner_text()
        assert "2.png" in shown and "damaged image" in shown
        assert visit.noise() == []


@needs_chromium
def test_corrections_become_a_dataset(browser, server, place, tmp_path):
    with Visit(browser, server) as visit:
        page = visit.page
        page.click("#keep")
        page.get_by_text("Choose a picture first.").wait_for()
        for i, (typed, count) in enumerate((("Émeu", 1), ("a new class", 2))):
            if i:
                page.reload()
            visit.upload(place / f"{i}.png")
            visit.answer()
            if not i:
                page.click("#keep")
                page.get_by_text("Say what the picture shows first").wait_for()
            box = page.locator("#label input")
            box.fill(typed)
            box.press("Enter")
            page.click("#keep")
            page.get_by_text(f"Kept as {'emu' if not i else typed}; {count} ").wait_for()
        folder = place / "feedback"
        kept = (folder / "labels.csv").read_bytes()
        (folder / "labels.csv").write_bytes(kept + "\na.jpg,Émeu".encode("cp1252"))
        page.click("#keep")
        page.get_by_text("The picture could not be kept.").wait_for()
        (folder / "labels.csv").write_bytes(kept)
    rows = list(csv.reader((folder / "labels.csv").read_text("utf-8").splitlines()))
    assert rows[0] == ["filename", "label"]
    assert [label for _, label in rows[1:]] == ["emu", "a new class"]
    for i, (name, _) in enumerate(rows[1:]):
        assert (folder / "images" / name).read_bytes() == tiny_net.picture(i)
    convert(
        ConvertOptions.of(
            image_dir=str(folder / "images"),
            csv_file=str(folder / "labels.csv"),
            output_dir=str(tmp_path / "data"),
            validation_fraction=0.0,
        ),
        silent,
    )
    labels = (tmp_path / "data/labels.txt").read_text("utf-8")
    assert labels == "0:a new class\n1:emu\n"


@needs_chromium
def test_several_users_wait_in_a_queue_that_is_shown(browser, server, place, model, monkeypatch):
    begun, gate, answered = threading.Event(), threading.Event(), web_demo.answered

    def gated(*args):
        begun.set()
        assert gate.wait(60)
        return answered(*args)

    monkeypatch.setattr(web_demo, "answered", gated)
    visits = [Visit(browser, server) for _ in range(3)]
    try:
        for i, visit in enumerate(visits):
            visit.upload(place / f"{i}.png")
            if i == 0:
                assert begun.wait(60)
            else:  # so that their pictures arrive in this order
                visit.page.get_by_text(f"queue: {i}/").wait_for()
        gate.set()
        assert [visit.answer() for visit in visits] == [expected(model, i) for i in range(3)]
    finally:
        gate.set()
        for visit in visits:
            visit.context.close()


@needs_chromium
def test_a_picture_is_pasted(browser, server, model):
    copy = """async ([bytes]) => {
      const picture = new Blob([new Uint8Array(bytes)], {type: "image/png"});
      await navigator.clipboard.write([new ClipboardItem({"image/png": picture})]);
    }"""
    with Visit(browser, server) as visit:
        visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
        visit.page.evaluate(copy, [list(tiny_net.picture(2))])
        visit.page.get_by_label("Paste from clipboard").click()
        assert visit.answer() == expected(model, 2)
        assert visit.noise() == []


@needs_chromium
def test_a_picture_is_taken_by_the_camera(browser, server):
    """Chromium's own, which shows a figure that turns on green."""
    with Visit(browser, server) as visit:
        visit.page.get_by_label("Capture from camera").click()
        visit.page.get_by_text("Click to Access Webcam").click()
        visit.page.wait_for_function("document.querySelector('#picture video').videoWidth")
        visit.page.get_by_label("capture photo").click()
        assert visit.answer() in NAMES.values()
        assert visit.noise() == []


@needs_chromium
@pytest.mark.parametrize(("tab", "page"), [("Evaluation", "report"), ("Comparison", "comparison")])
def test_a_page_that_is_given_has_a_tab(browser, server, tab, page):
    with Visit(browser, server) as visit:
        visit.open_tab(tab)
        frame = visit.page.locator(f"iframe[title={page}]").content_frame
        assert frame.locator("h1").inner_text() == f"The {page}"
        assert visit.noise() == []


@pytest.mark.parametrize(
    "path", ["gradio_api/proxy=https://example.org/x", "gradio_api/file=https://example.org/x"]
)
def test_the_server_fetches_nothing_for_others_and_shows_no_other_file(server, place, path):
    files = (place / "names.json", ROOT / "README.md")
    for closed in (path, *(f"gradio_api/file={file}" for file in files)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(server.address + closed)
        assert refused.value.code in (403, 404)
        refused.value.close()
    with urllib.request.urlopen(server.address) as page:
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert server.address.startswith("http://127.0.0.1:")


def asked(server, path, content=None, **headers):
    """The status with which a hand-made request is answered."""
    body = content if isinstance(content, bytes | None) else json.dumps(content).encode()
    headers["Content-Type"] = "application/json"
    request = urllib.request.Request(server.address + path, body, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code


@pytest.mark.parametrize(
    "form", ["{}", "{uploads}/../{}", "file://{}", "http://127.0.0.1:1{}", "."]
)
def test_a_request_names_uploads_alone(server, place, form):
    """By hand, past the page: what is not its own would be read, shown and kept."""
    uploads = os.environ["GRADIO_TEMP_DIR"]
    other = form.format(f"{place}/1.png", uploads=uploads)
    for path in (other, f"{uploads}/../../etc/passwd", uploads):
        named = {"path": path, "meta": {"_type": "gradio.FileData"}}
        for data in ([named], [[named]], [named | {"is_stream": True}], [{"path": path}]):
            asks = {"data": data, "fn_index": 0, "session_hash": "x"}
            assert asked(server, "gradio_api/queue/join?", asks) == 403
            assert asked(server, "gradio_api/run/predict", asks) == 403
    assert asked(server, "gradio_api/queue/join", b"[" * 100_000) == 403
    assert asked(server, "gradio_api/queue/join", b"no JSON") == 403
    assert asked(server, "gradio_api/component_server", {}) == 404
    assert asked(server, "gradio_api/process_recording", b"") == 404


def test_another_name_of_this_machine_is_refused(server):
    assert asked(server, "", Host="localhost:7860") == asked(server, "", Host="[::1]") == 200
    assert asked(server, "", Host="elsewhere.example") == asked(server, "", Host="127.0.0.2") == 421


def test_an_upload_that_was_deleted_meanwhile_is_told(tmp_path):
    with pytest.raises(page.Refused, match="gone"):
        page._content(str(tmp_path / "deleted.png"))


def test_an_address_that_is_taken_is_named(server, place):
    port = int(server.address.rstrip("/").split(":")[-1])
    options = WebDemoOptions.of(model=str(place / "train"), port=port)
    with pytest.raises(InputError, match=f"--port={port}: Address already in use"):
        web_demo.prepare(options, silent)
    options = WebDemoOptions.of(model=str(place / "train"), host="no such host", port=0)
    with pytest.raises(InputError, match="--host=no such host: "):
        web_demo.prepare(options, silent)


def test_pages_and_examples_that_are_not_there_are_named_before_the_model_is_read(place, tmp_path):
    (place / "pictures").mkdir()
    for given, problem in (
        ({"report": "absent.html"}, "--report=absent.html: there is no such file"),
        ({"examples": ["absent.jpg"]}, "--examples=absent.jpg: there is no such picture"),
        ({"examples": [str(place / "pictures")]}, "--examples=.*/pictures: no picture there"),
    ):
        with pytest.raises(InputError, match=problem):
            checks.web_demo(WebDemoOptions.of(model=str(place / "train"), **given))


def test_feedback_of_many_at_once_is_whole_and_the_last_word_counts(tmp_path):
    feedback = Feedback(str(tmp_path))
    data = [bytes([0xFF, 0xD8, 0xFF, i]) for i in range(20)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(feedback.add, data, ["first"] * 20))
    assert Feedback(str(tmp_path)).add(data[3], "  second  one ") == 20
    rows = list(csv.reader((tmp_path / "labels.csv").read_text("utf-8").splitlines()))
    assert len(rows) == 21 and sum(label == "second one" for _, label in rows) == 1
    assert all(name.endswith(".jpg") for name, _ in rows[1:])
    for label in ("", " ", "x" * 101):
        with pytest.raises(LabelError, match="1 to 100 characters"):
            feedback.add(data[0], label)


def test_a_table_of_feedback_that_people_edited(tmp_path):
    Feedback(str(tmp_path)).add(b"\xff\xd8\xff", "first")
    table = tmp_path / "labels.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes() + b"\r\n")
    assert Feedback(str(tmp_path)).add(b"\xff\xd8\xff\x01", "second") == 2
    for content, problem in (
        ("filename;label\na.jpg;cat\n", "its first row is not filename,label"),
        ("a.jpg,cat\nb.jpg,dog\n", "its first row is not filename,label"),
        ("filename,label\na.jpg;cat\n", "its rows are not of filename,label"),
        ("filename,label\na.jpg,Émeu\n", "Save it as CSV in UTF-8"),
    ):
        table.write_bytes(content.encode("cp1252"))
        with pytest.raises(InputError, match=rf"--feedback_dir: .*labels\.csv: .*{problem}"):
            Feedback(str(tmp_path))
        assert table.read_bytes() == content.encode("cp1252")


def test_both_languages_say_the_same():
    assert words.ENGLISH.keys() == words.FRENCH.keys()
    for key, sentence in words.ENGLISH.items():
        fields = {part.split("}")[0] for part in sentence.split("{")[1:]}
        assert fields == {part.split("}")[0] for part in words.FRENCH[key].split("{")[1:]}
    assert words.of("fr-CA,en;q=0.5") is words.FRENCH and words.of("de,fr") is words.ENGLISH


def test_memory_does_not_grow_with_the_number_of_visitors():
    from gradio.state_holder import StateHolder

    demo = page.Demo(lambda data: None, lambda paths: [], [], None, [], {}, 1)
    holder = StateHolder()
    holder.set_blocks(page.build(demo))
    for visitor in range(150):
        assert holder[str(visitor)]
    assert len(holder.session_data) == 100
