"""Downloads from a zoo on this machine, with all that goes wrong on the way."""

import email
import errno
import functools
import hashlib
import http.server
import io
import pathlib
import re
import socket
import ssl
import tarfile
import threading
import urllib.error
import urllib.request
import urllib.response

import keras
import numpy as np
import pytest

from foundation import files
from foundation.errors import AgainError, InputError
from nets import (
    checkpoints,
    https,
    keras_applications,
    keras_to_slim,
    nets_factory,
    pretrained,
    slim_names,
)
from nets.shapes import shapes_only
from tests.conftest import ROOT

ZOO = ROOT / "tests/fixtures/slim_parity/checkpoints/zoo_v1/mobilenet_v1_0.25_128.ckpt"
NET = "mobilenet_v1_025"


class Zoo(http.server.BaseHTTPRequestHandler):
    """Serves `server.content`; the first `server.breaks` answers end in the middle."""

    def do_GET(self):
        server = self.server
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and server.resumes else 0
        server.requests.append(start)
        if self.path != "/zoo/net.tar.gz":
            return self.send_error(404)
        if start >= len(server.content):
            return self.send_error(416)
        rest = server.content[start:]
        self.send_response(206 if asked and server.resumes else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if server.breaks:
            server.breaks -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("zoo") / "net.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        file.add(ZOO, ZOO.name)
    return path.read_bytes()


@pytest.fixture
def zoo(archive):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Zoo) as server:
        server.content, server.breaks, server.resumes, server.requests = archive, 0, True, []
        server.url = f"http://127.0.0.1:{server.server_port}/zoo/net.tar.gz"
        thread = threading.Thread(target=functools.partial(server.serve_forever, 0.01))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def row(zoo, monkeypatch):
    monkeypatch.setitem(pretrained.ARCHIVES, NET, pretrained.Archive(zoo.url))


def read(tmp_path, name=NET, say=print):
    return pretrained.read(name, "pretrained", 1001, str(tmp_path), say)


def kept(folder):
    """The files in a cache but for locks, which stay."""
    found = [path.name for path in folder.rglob("*") if path.is_file()]
    return [name for name in found if not (name.startswith(".") and name.endswith(".lock"))]


def test_an_archive_is_fetched_once(zoo, row, tmp_path):
    for _ in range(2):
        reader = read(tmp_path)
        assert reader.shapes["MobilenetV1/Logits/Conv2d_1c_1x1/biases"] == (1001,)
    assert zoo.requests == [0]
    assert kept(tmp_path) == ["net.tar.gz"]


def test_what_the_zoo_trained_otherwise_is_said(zoo, tmp_path, monkeypatch):
    monkeypatch.setitem(pretrained.ARCHIVES, "resnet_v2_50", pretrained.Archive(zoo.url))
    said = []
    read(tmp_path, "resnet_v2_50", said.append)
    assert "add --preprocessing_name=inception and images of 299 pixels" in said[0]


@pytest.mark.parametrize("resumes", [True, False])
def test_a_broken_download_is_taken_up_where_it_stopped(zoo, archive, tmp_path, resumes):
    zoo.breaks, zoo.resumes = 1, resumes
    checked = pretrained.Archive(zoo.url, hashlib.sha256(archive).hexdigest())
    path = pretrained.fetch(checked, str(tmp_path))
    assert pathlib.Path(path).read_bytes() == archive
    assert zoo.requests == ([0, len(archive) // 2] if resumes else [0, 0])


def test_a_later_command_carries_on(zoo, archive, tmp_path):
    (tmp_path / "net.tar.gz.part").write_bytes(archive[:1000])
    path = pretrained.fetch(pretrained.Archive(zoo.url), str(tmp_path))
    assert pathlib.Path(path).read_bytes() == archive
    assert zoo.requests == [1000]


def test_a_part_of_another_file_is_thrown_away(zoo, archive, tmp_path):
    (tmp_path / "net.tar.gz.part").write_bytes(archive + b"more")
    path = pretrained.fetch(pretrained.Archive(zoo.url), str(tmp_path))
    assert pathlib.Path(path).read_bytes() == archive
    assert zoo.requests == [len(archive) + 4, 0]


def test_a_wrong_hash(zoo, tmp_path):
    with pytest.raises(ValueError, match=f"{zoo.url}: its SHA-256 is [0-9a-f]{{64}}, not abc:"):
        pretrained.fetch(pretrained.Archive(zoo.url, "abc"), str(tmp_path))
    assert not kept(tmp_path)


@pytest.fixture
def led_astray(monkeypatch):
    """A server with HTTPS that leads to one without, which leads back; the second's requests."""
    asked = []

    def answered(request, code=200, location=""):
        headers = email.message_from_string(f"Location: {location}\n\n")
        answer = urllib.response.addinfourl(io.BytesIO(b"theirs"), headers, request.full_url, code)
        answer.msg = ""
        return answer

    def in_between(self, request):
        asked.append(request.full_url)
        return answered(request, 302, "https://example.org/theirs")

    def first(self, request):
        if request.full_url.endswith("theirs"):
            return answered(request)
        return answered(request, 302, "http://example.org/in/between")

    monkeypatch.setattr(urllib.request.HTTPSHandler, "https_open", first)
    monkeypatch.setattr(urllib.request.HTTPHandler, "http_open", in_between)
    return asked


def test_no_redirection_leads_out_of_https(tmp_path, led_astray):
    archive = pretrained.Archive("https://example.org/zoo.tar.gz")
    with pytest.raises(InputError, match="leads out of HTTPS, to http://example.org/in/between"):
        pretrained.fetch(archive, str(tmp_path))
    assert led_astray == [] and kept(tmp_path) == []


def test_no_redirection_leads_keras_out_of_https(tmp_path, led_astray):
    with pytest.raises(OSError, match="of keras_mobilenet_v1: https.* leads out of HTTPS"):
        read(tmp_path, "keras_mobilenet_v1")
    assert led_astray == [] and kept(tmp_path) == []


def test_what_is_not_there(zoo, tmp_path):
    with pytest.raises(OSError, match=r"--checkpoint_path=pretrained: .*/gone: 404 Not Found\."):
        pretrained.fetch(pretrained.Archive(zoo.url + "/gone"), str(tmp_path))
    assert not kept(tmp_path)


def test_a_damaged_archive_is_not_kept(zoo, row, tmp_path):
    zoo.content = zoo.content[:5000]
    with pytest.raises(ValueError, match="not a whole archive"):
        read(tmp_path)
    assert not kept(tmp_path)


def offline():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/net.tar.gz"


def test_offline_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(pretrained.ARCHIVES, NET, pretrained.Archive(offline()))
    message = "could not fetch http://127.0.0.1:.*Connection refused.*give a downloaded file"
    with pytest.raises(AgainError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (urllib.error.HTTPError("u", 503, "busy", {}, None), True),
        (urllib.error.HTTPError("u", 404, "gone", {}, None), False),
        (urllib.error.URLError(socket.gaierror(-2, "Name or service not known")), True),
        (urllib.error.URLError(ssl.SSLCertVerificationError("self-signed")), False),
        (urllib.error.URLError(OSError(errno.ENETUNREACH, "Network is unreachable")), True),
        (TimeoutError("timed out"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
    ],
)
def test_what_may_succeed_later_is_told_from_what_will_not(error, passing):
    try:
        try:
            raise error
        except OSError as cause:  # as Keras does
            raise Exception("URL fetch failure") from cause
    except Exception as failure:
        assert https.is_passing(failure) == passing
    assert https.is_passing(error) == passing


def test_one_process_downloads_and_others_wait(zoo, archive, tmp_path):
    lock, said, paths = tmp_path / ".net.tar.gz.lock", [], []
    waiting = threading.Event()

    def say(line):
        said.append(line)
        waiting.set()

    def wait():
        paths.append(pretrained.fetch(pretrained.Archive(zoo.url), str(tmp_path), say))

    with files.locked(lock):
        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(20)
        (tmp_path / "net.tar.gz").write_bytes(archive)
    thread.join(20)
    assert said == [f"{files.holder(lock)} downloads net.tar.gz into {tmp_path}; waiting for it …"]
    assert zoo.requests == [] and pathlib.Path(paths[0]).read_bytes() == archive


def test_one_that_was_killed_is_in_nobodys_way(zoo, archive, tmp_path):
    (tmp_path / ".net.tar.gz.lock").write_text("process 1 on a machine that is gone")
    (tmp_path / "net.tar.gz.part").write_bytes(archive[:1000])
    path = pretrained.fetch(pretrained.Archive(zoo.url), str(tmp_path), pytest.fail)
    assert pathlib.Path(path).read_bytes() == archive and zoo.requests == [1000]


@pytest.fixture
def keras_weights(monkeypatch):
    """In place of a download: ones, under the names of Keras's row."""

    def ones(name, cache_dir):
        with shapes_only():
            variables = slim_names.variables(nets_factory.build(name, 1000))
        return {name: np.ones(v.shape, np.float32) for name, v in variables.items()}

    monkeypatch.setattr(keras_applications, "pretrained_weights", ones)


def test_without_the_zoo_keras_weights_are_taken(tmp_path, monkeypatch, keras_weights):
    monkeypatch.setitem(pretrained.ARCHIVES, "mobilenet_v1", pretrained.Archive(offline()))
    said = []
    reader = read(tmp_path, "mobilenet_v1", said.append)
    assert "Taking the ImageNet weights of keras.applications." in said[0]
    assert reader.path == "keras.applications.MobileNet, ImageNet"
    assert reader.shapes["MobilenetV1/Logits/Conv2d_1c_1x1/weights"] == (1, 1, 1024, 1000)


def test_keras_knows_no_auxiliary_head(tmp_path, monkeypatch, keras_weights):
    monkeypatch.setitem(pretrained.ARCHIVES, "inception_v3", pretrained.Archive(offline()))
    reader = read(tmp_path, "inception_v3")
    options = pretrained.net_options("inception_v3", reader)
    model = nets_factory.build("inception_v3", 1000, 107, **options)
    assert not checkpoints.restore(model, reader).unused


def test_a_net_of_keras_has_the_weights_of_keras(tmp_path, keras_weights):
    reader = read(tmp_path, "keras_mobilenet_v2")
    model = nets_factory.build("keras_mobilenet_v2", 1000, 32)
    report = checkpoints.restore(model, reader)
    assert len(report.restored) == len(model.weights) and not report.unused
    assert np.all(checkpoints.values(model)["MobileNetV2/predictions/weights"] == 1)


def test_a_net_without_published_weights(tmp_path):
    with pytest.raises(ValueError, match="no weights are published for small_cnn; --list_models"):
        read(tmp_path, "small_cnn")


@pytest.mark.parametrize(
    ("name", "ending"), [("keras_mobilenet_v1", ".weights.h5"), ("mobilenet_v1", ".keras")]
)
def test_a_file_of_keras(tmp_path, name, ending):
    theirs = keras.applications.MobileNet(weights=None, classes=3, input_shape=(32, 32, 3))
    path = str(tmp_path / f"net{ending}")
    (theirs.save if ending == ".keras" else theirs.save_weights)(path)
    reader = pretrained.read(name, path, 3)
    model = nets_factory.build(name, 3, 32)
    assert not checkpoints.restore(model, reader).unused
    image = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    expected = np.asarray(theirs(image))
    np.testing.assert_allclose(keras.ops.softmax(model(image)["logits"]), expected, atol=1e-5)


def test_files_that_are_none(tmp_path):
    (tmp_path / "net.h5").write_text("no weights")
    with pytest.raises(ValueError, match="small_cnn is no net of keras.applications"):
        pretrained.read("small_cnn", f"{tmp_path}/net.h5", 3)
    with pytest.raises(ValueError, match="no file of weights that Keras can read"):
        pretrained.read("keras_mobilenet_v1", f"{tmp_path}/net.h5", 3)
    with pytest.raises(ValueError, match="gone.keras: no such file"):
        pretrained.read("keras_mobilenet_v1", f"{tmp_path}/gone.keras", 3)


def test_every_source_is_of_a_net():
    assert pretrained.ARCHIVES.keys() <= nets_factory.NETS.keys()
    assert keras_to_slim.COUNTERPARTS.keys() <= nets_factory.NETS.keys()
    assert set(keras_to_slim.COUNTERPARTS.values()) <= keras_applications.APPLICATIONS.keys()
