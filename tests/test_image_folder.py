import functools
import http.server
import os
import shutil
import ssl
import subprocess
import threading
import unicodedata

import pytest
from PIL import Image

from datasets.sources.bucket_folder import folder_at
from datasets.sources.image_folder import ImageFolder
from foundation.errors import InputError, Unreadable


@pytest.fixture
def folder(tmp_path):
    """A folder `pictures` with a few files, and secrets beside it."""
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    for path in ("a.jpg", "cat/1.jpg", "dog/1.jpg", "cat/only.JPG", "cat/dotted.v2.jpg", "t.png"):
        file = tmp_path / "pictures" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(file, "JPEG")
    (tmp_path / "pictures" / "t.jpg").write_bytes(b"")
    return ImageFolder(str(tmp_path / "pictures"))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.jpg", "a.jpg"),
        ("./cat/../a.jpg", "a.jpg"),
        ("a", "a.jpg"),
        ("a.png", "a.jpg"),
        ("cat/1", "cat/1.jpg"),
        ("cat\\1.jpg", "cat/1.jpg"),
        ("only", "cat/only.JPG"),
        ("dotted.v2", "cat/dotted.v2.jpg"),
        ("pictures/cat/1.jpg", "cat/1.jpg"),
        ("t.png", "t.png"),
        ("gone.jpg", None),
        ("cow/1.jpg", None),
        ("cow/only.jpg", None),
        ("", None),
        (".", None),
    ],
)
def test_a_photograph_is_found_by_what_it_is_called(folder, name, found):
    assert getattr(folder.find(name), "path", None) == found


def test_an_absolute_path_in_the_folder_is_understood(folder):
    name = os.path.abspath(os.path.join(folder.path, "cat", "1.jpg"))
    assert folder.find(name) == ("cat/1.jpg", "")


@pytest.mark.parametrize(
    "name",
    [
        "/home/pat/set/cat/dotted.v2.jpg",
        "/content/drive/MyDrive/dotted.v2.jpg",
        "C:\\Users\\pat\\set\\dotted.v2.jpg",
        "../images/dotted.v2.jpg",
        "gs://bucket/set/dotted.v2.jpg",
    ],
)
def test_the_bare_name_of_a_path_of_another_machine_is_taken_where_there_is_one(folder, name):
    remark = f"foreign path: {name}, taken for cat/dotted.v2.jpg"
    assert folder.find(name) == ("cat/dotted.v2.jpg", remark)


def test_of_a_path_of_another_machine_the_longest_end_counts(folder):
    assert folder.find("/home/pat/set/dog/1.jpg").path == "dog/1.jpg"
    with pytest.raises(ValueError, match="ambiguous name: 1.jpg may be cat/1.jpg or dog/1.jpg"):
        folder.find("/home/pat/set/cow/1.jpg")
    with pytest.raises(ValueError, match="leaves --image_dir: /home/pat/gone.jpg"):
        folder.find("/home/pat/gone.jpg")


def test_a_folder_of_another_machine_is_passed_over(tmp_path, folder):
    assert folder.find("set/cat/1.jpg").path == "cat/1.jpg"
    Image.new("RGB", (2, 2)).save(tmp_path / "pictures" / "b.jpg")
    assert folder.find("cow/b.jpg") is None  # cows have a folder where there are any
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "flat" / "3.jpg")
    found = ImageFolder(str(tmp_path / "flat")).find("set/3.jpg")
    assert found == ("3.jpg", "foreign path: set/3.jpg, taken for 3.jpg")


def test_of_equal_names_the_one_in_the_same_split_is_meant(tmp_path):
    for split in ("train", "valid"):
        (tmp_path / split / "images").mkdir(parents=True)
        Image.new("RGB", (2, 2)).save(tmp_path / split / "images" / "1.jpg")
    folder = ImageFolder(str(tmp_path))
    assert folder.find("1.jpg", near="valid/annotations").path == "valid/images/1.jpg"
    with pytest.raises(ValueError, match="ambiguous name"):
        folder.find("1.jpg", near="test/annotations")


def test_accents_in_either_form_are_the_same_name(tmp_path):
    nfd, nfc = (unicodedata.normalize(form, "épagneul") for form in ("NFD", "NFC"))
    (tmp_path / nfd).mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / nfd / f"{nfd}.jpg")
    folder = ImageFolder(str(tmp_path))
    for name in (f"{nfc}.jpg", nfc, f"{nfc}/{nfc}.jpg", f"{nfd}/{nfc}"):
        assert folder.find(name) == (f"{nfd}/{nfd}.jpg", "")


def test_a_name_in_another_case_is_found_and_that_is_said(folder):
    remark = "name in another case: CAT.V2.jpg, cat/cat.v2.jpg"
    os.rename(f"{folder.path}/cat/dotted.v2.jpg", f"{folder.path}/cat/cat.v2.jpg")
    assert folder.find("CAT.V2.jpg") == ("cat/cat.v2.jpg", remark)
    assert folder.find("cat.v2.JPG").remark == "name in another case: cat.v2.JPG, cat/cat.v2.jpg"
    assert folder.find("cat.v2.png").remark == "name in another format: cat.v2.png, cat/cat.v2.jpg"
    open(f"{folder.path}/CAT.V2.jpg", "w").close()
    assert ImageFolder(folder.path).find("CAT.V2") == ("CAT.V2.jpg", "")


def test_a_name_is_first_looked_for_beside(folder):
    assert folder.find("1.jpg", near="dog").path == "dog/1.jpg"
    assert folder.find("1", near="cat").path == "cat/1.jpg"


@pytest.mark.parametrize("name", ["1.jpg", "1", "t"])
def test_a_name_that_fits_several_is_refused(folder, name):
    with pytest.raises(ValueError, match="ambiguous name: "):
        folder.find(name)


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "cat/../../secret.jpg", "/etc/passwd", "..", "..\\secret.jpg"]
)
def test_a_name_that_leads_out_is_refused(folder, name):
    with pytest.raises(ValueError, match="leaves --image_dir"):
        folder.find(name)


def test_a_null_character_is_refused(folder):
    with pytest.raises(ValueError, match="leaves --image_dir: its name holds a null character"):
        folder.find("a\0.jpg")


def test_a_symbolic_link_may_lead_anywhere_inside_but_not_out(folder):
    os.symlink("a.jpg", os.path.join(folder.path, "in.jpg"))
    os.symlink("../secret.jpg", os.path.join(folder.path, "out.jpg"))
    os.symlink("..", os.path.join(folder.path, "up"))
    assert folder.read("in.jpg") == folder.read("a.jpg")
    for path in ("out.jpg", "up/secret.jpg"):
        with pytest.raises(ValueError, match="leaves --image_dir: through a symbolic link"):
            folder.read(path)


def test_what_cannot_be_read_says_why(folder, monkeypatch):
    with pytest.raises(ValueError, match="^missing file$"):
        folder.read("gone.jpg")
    with pytest.raises(ValueError, match="^not a file$"):
        folder.read("cat")
    os.mkfifo(os.path.join(folder.path, "pipe.jpg"))
    with pytest.raises(ValueError, match="^not a file$"):
        folder.read("pipe.jpg")
    monkeypatch.setattr("datasets.sources.image_folder.MAX_FILE_BYTES", 10)
    with pytest.raises(ValueError, match="^file too large: "):
        folder.read("a.jpg")


def test_photographs_are_listed_in_order_without_what_is_none(tmp_path):
    for name in ("b.jpg", "a", "c/d.GIF", ".hidden.jpg", "notes.txt", "a.xml", "Thumbs.db"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    os.symlink(tmp_path / "c", tmp_path / "link")
    # A link to a folder is not entered; it is named, so that it is reported.
    assert list(ImageFolder(str(tmp_path)).photographs()) == ["a", "b.jpg", "link", "c/d.GIF"]


def test_no_folder_is_an_error():
    with pytest.raises(ValueError, match="--image_dir=gone: there is no such folder"):
        ImageFolder("gone")


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("https://127.0.0.1:1/a.zip", "an archive is not read. Unpack it"),
        ("photographs.tar.gz", "an archive is not read. Unpack it"),
        ("https://127.0.0.1:1/photographs", "it can't be reached: .*127.0.0.1:1"),
        ("memory://nothing", "there is no such folder"),
        ("nothing", "there is no such folder"),
    ],
)
def test_why_there_is_no_folder(path, problem):
    if "://" in path:
        pytest.importorskip("fsspec")
        pytest.importorskip("aiohttp")
    with pytest.raises(InputError, match=f"^--image_dir={path}: {problem}"):
        folder_at(path)


class _Answers(http.server.BaseHTTPRequestHandler):
    """Of /photographs/NAME what _ANSWERS says."""

    def do_GET(self):
        status, text = _ANSWERS.get(self.path.removeprefix("/photographs").strip("/"), (404, b""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        if status == 302:
            self.send_header("Location", text.decode())
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(text)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


_ANSWERS = {
    "": (200, b'<a href="a.jpg"><a href="golden%20retriever/">'),
    "golden%20retriever": (200, b'<a href="%C3%A4%201.jpg"><a href="50%25.jpg"><a href="%E4.jpg">'),
    "golden%20retriever/%C3%A4%201.jpg": (200, b"a retriever"),
    "golden%20retriever/50%25.jpg": (200, b"half"),
    "a.jpg": (200, b"picture"),
    "led.jpg": (302, b"a.jpg"),
    "astray.jpg": (302, b"http://127.0.0.1:1/a.jpg"),
    "busy.jpg": (503, b""),
    "elsewhere": (302, b"http://127.0.0.1:1/"),
}


@pytest.fixture
def https_url(tmp_path, monkeypatch):
    """A server by HTTPS whose certificate is believed while the test runs."""
    client = pytest.importorskip("aiohttp.client")
    web = pytest.importorskip("fsspec.implementations.http").HTTPFileSystem
    if not shutil.which("openssl"):
        pytest.skip("needs openssl, which makes the certificate")
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    said = "-keyout key -out certificate -subj /CN=test -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*made.split(), *said.split()], cwd=tmp_path, check=True, capture_output=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    believed = ssl.create_default_context(cafile=tmp_path / "certificate")
    connector = functools.partial(client.TCPConnector, ssl=believed)
    monkeypatch.setattr(client, "TCPConnector", connector)
    web.clear_instance_cache()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}/photographs"
    server.shutdown()
    server.server_close()
    web.clear_instance_cache()


def test_photographs_over_https_stay_with_it(https_url):
    folder = folder_at(f"{https_url}/")
    escaped = [f"golden retriever/{name}" for name in ("%E4.jpg", "50%25.jpg", "ä 1.jpg")]
    assert list(folder.photographs()) == ["a.jpg", *escaped]
    assert folder.read(escaped[2]) == b"a retriever" and folder.read(escaped[1]) == b"half"
    assert folder.read("a.jpg") == folder.read("led.jpg") == b"picture"
    led = "a server leads out of HTTPS, to http://127.0.0.1:1/"
    with pytest.raises(ValueError, match=f"^{led}a.jpg"):
        folder.read("astray.jpg")
    with pytest.raises(InputError, match=f"^--image_dir=https://.*/elsewhere: {led}"):
        folder_at(f"{https_url}/elsewhere")
    with pytest.raises(ValueError, match="missing"):
        folder.read("gone.jpg")
    # A server that fails for a while says nothing of a photograph.
    with pytest.raises(Unreadable, match="busy.jpg: 503"):
        folder.read("busy.jpg")
