"""docs/serving.md: its commands are run, and its clients ask servers on this machine.

TensorFlow Serving is stood in for by the SavedModel itself, behind gRPC and HTTP as its interface
is described; MLflow's server is MLflow's.
"""

import contextlib
import http.server
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64decode
from concurrent import futures

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets import schema
from foundation import options
from foundation.errors import UsageError
from runs import options as job
from runs import registration
from runs.export import export
from runs.registration import Measured
from runs.train import train
from serving import latency, saved_model
from tests import tiny_net
from tests.conftest import ROOT
from tests.test_page import CHROMIUM, needs_chromium
from training import tracking

mlflow = pytest.importorskip("mlflow", reason='needs pip install ".[mlflow]"')
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
NAME = "animals"


def code(name):
    """A block of the page."""
    return re.search(f"<!-- {name} -->\n```\\w+\n(.*?)```", PAGE, re.DOTALL)[1]


def commands():
    """The page's calls of export_model.py, as options."""
    for line in re.findall(r"^python export_model.py (.*)$", PAGE, re.MULTILINE):
        given = dict(word.removeprefix("--").split("=") for word in shlex.split(line))
        if "formats" in given:
            given["formats"] = given["formats"].split(",")
        yield job.ExportModelOptions.of(**given, check_examples=4)


@contextlib.contextmanager
def inside(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


def run(name, made, **addresses):
    """Runs a block of the page with servers at other addresses."""
    text = code(name)
    for place, address in addresses.items():
        assert place in text
        text = text.replace(place, address)
    exec(compile(text, f"{name} of serving.md", "exec"), made)
    return made


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture(scope="module")
def place(uri, colours, tmp_path_factory):
    """A folder with a short training, and what the page's commands made of it."""
    place = tmp_path_factory.mktemp("serving")
    with inside(place):  # MLflow's artifacts go there
        train(
            job.TrainOptions.of(
                dataset_dir=str(colours),
                train_dir="output",
                model_name="small_cnn",
                train_image_size=16,
                batch_size=8,
                max_number_of_steps=2,
                tracking="mlflow",
                mlflow_uri=uri,
            ),
            say=lambda line: None,
        )
    return place


@pytest.fixture(scope="module")
def exported(place):
    """The folder of the export with the page's formats."""
    first = next(commands())
    with inside(place):
        export(first, say=lambda line: None)
    return place / first.export.output_dir


@pytest.fixture(scope="module")
def said(place, exported, uri, pictures):
    """What was said when the page's command registered an export, and a second time.

    The net is that of `exported`, and so is its SavedModel, whose writing takes longest.
    """
    lines, (_, registering) = [], commands()

    def write(directory, *_, **__):
        shutil.copytree(exported / "saved_model" / "1", directory)
        shutil.rmtree(os.path.join(directory, "assets.extra"))

    with inside(place), pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_model, "write", write)
        export(registering, say=lines.append)
        tags = mlflow.MlflowClient(uri).get_model_version(NAME, "1").tags
        run_id = json.loads((place / "output" / "run.json").read_text())["mlflow_run_id"]
        tracked = tracking.MlflowRun(uri, "", run_id)
        examples = [pathlib.Path(pictures[0]).read_bytes()]
        registered = os.path.join("registered", "saved_model", "1")
        registration.register(
            NAME, registered, examples, tracked, Measured.of(tags), say=lines.append
        )
    return lines


def test_an_export_of_an_untracked_training_gets_a_run_of_its_own(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MLflow's artifacts go there
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (tmp_path / "pets").mkdir()
    train_dir = tiny_net.train(tmp_path / "pets", ("cat", "dog", "emu"))
    lines, given = [], {"formats": ["frozen_graph"], "tracking": "mlflow"}
    export(
        job.ExportModelOptions.of(checkpoint_path=train_dir, output_dir="exported", **given),
        say=lines.append,
    )
    (line,) = (line for line in lines if "the training was not tracked" in line)
    client, run_id = mlflow.MlflowClient(uri), re.search(r"run (\w+) in", line)[1]
    run = client.get_run(run_id)
    assert (run.info.run_name, run.info.status) == ("pets", "FINISHED")
    assert run.data.params == {
        "model_name": "lenet",
        "checkpoint": os.path.join(train_dir, "model.ckpt-7"),
    }
    kept = {os.path.basename(one.path) for one in client.list_artifacts(run_id, "exported_model")}
    assert kept == {"frozen_graph.pb", "labels.txt", "export.json"}


@pytest.fixture(scope="module")
def pictures(place, colours):
    """Three files."""
    records = tf.data.TFRecordDataset(str(next(colours.glob("*validation*.tfrecord"))))
    paths = []
    for i, record in enumerate(records.take(3)):
        paths.append(place / f"{i}.jpg")
        paths[-1].write_bytes(schema.parse_example(record)["encoded"].numpy())
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def classify(exported):
    """The signature that clients ask, from arrays to arrays."""
    served = tf.saved_model.load(str(exported / "saved_model" / "1"))

    def call(signature, encoded):
        answer = served.signatures[signature](encoded_images=tf.constant(encoded, tf.string))
        return {name: found.numpy() for name, found in answer.items()}

    return call


@pytest.fixture(scope="module")
def answers(classify, pictures):
    """What the SavedModel itself says of the files."""
    return classify("serving_default", [pathlib.Path(path).read_bytes() for path in pictures])


def lines_of(pictures, answers):
    """The best class of each file, as the page's clients print it: name, label."""
    labels = [row[0].decode() for row in answers["labels"]]
    return list(zip(pictures, labels, strict=True))


def as_text(value):
    """TensorFlow Serving's JSON has the strings of a tensor as text."""
    if isinstance(value, list):
        return [as_text(one) for one in value]
    return value.decode() if isinstance(value, bytes) else value


def test_the_files_of_the_page_are_there(exported):
    listed = re.findall(r"^exported/(\S+)", PAGE, re.MULTILINE)
    assert len(listed) == 9
    for name in listed:
        assert (exported / name).exists(), name
    assert 'name: "classifier"' in (exported / "saved_model" / "models.config").read_text()
    for name in re.findall(r"file=/models/classifier/(\S+)", PAGE):
        assert (exported / "saved_model" / name).exists()


def test_the_client_over_grpc(classify, pictures, answers, capsys):
    grpc = pytest.importorskip("grpc")
    pytest.importorskip("tensorflow_serving", reason='needs pip install ".[serving]"')
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            assert request.model_spec.name == "classifier"
            encoded = tf.make_ndarray(request.inputs["encoded_images"])
            response = predict_pb2.PredictResponse()
            found = classify(request.model_spec.signature_name, encoded)
            for name, value in found.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return response

    server = grpc.server(futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        made = run("grpc", {"pictures": pictures}, **{"localhost:8500": f"127.0.0.1:{port}"})
    finally:
        server.stop(None)
    np.testing.assert_allclose(
        made["answers"]["probabilities"], answers["probabilities"], atol=1e-5
    )
    printed = [tuple(line.split()[:2]) for line in capsys.readouterr().out.splitlines()]
    assert printed == lines_of(pictures, answers)


def test_the_client_over_rest(classify, exported, pictures, answers, capsys):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, body))
            found = classify(
                "serving_default", [b64decode(one["b64"]) for one in body["instances"]]
            )
            columns = {name: as_text(x.tolist()) for name, x in found.items()}
            rows = [
                dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
            ]
            content = json.dumps({"predictions": rows}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"127.0.0.1:{server.server_port}"
        made = run("rest", {"pictures": pictures}, **{"localhost:8501": address})
    finally:
        server.shutdown()
        server.server_close()
    ((path, body),) = asked
    example = json.loads((exported / "saved_model" / "rest_request.json").read_text())
    assert path == "/v1/models/classifier:predict" and body.keys() <= example.keys()
    assert body["instances"][0].keys() == example["instances"][0].keys()
    for row, wanted in zip(made["answers"], answers["probabilities"], strict=True):
        np.testing.assert_allclose(row["probabilities"], wanted, atol=1e-6)
    printed = [tuple(line.split()[:2]) for line in capsys.readouterr().out.splitlines()]
    assert printed == lines_of(pictures, answers)


def test_the_client_of_tflite_prepares_pixels_as_the_recipe_does(
    place, exported, pictures, classify, answers, capsys
):
    pytest.importorskip("ai_edge_litert", reason='needs pip install ".[tflite]"')
    clear = place / "clear.png"
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(clear)
    with inside(place):
        made = run("tflite", {"picture": str(clear)})
        assert made["pixels"].min() == 1  # white, not the black beneath
        wanted = classify("serving_default", [clear.read_bytes()])["probabilities"][0]
        np.testing.assert_allclose(made["probabilities"], wanted, atol=1e-4)
        for picture, wanted in zip(pictures, answers["probabilities"], strict=True):
            made = run("tflite", {"picture": picture})
            np.testing.assert_allclose(made["probabilities"], wanted, atol=0.05)
    assert len(capsys.readouterr().out.splitlines()) == 4 * 3
    # The metadata says how it is done, and with which mean and deviation.
    content = (exported / "model.tflite").read_bytes()
    assert b"16 x 16 pixels of an upright picture: the middle 87.5 % of both sides" in content
    assert np.float32(127.5).tobytes() in content


RUNTIME = """
export class Tensor { constructor(type, data, dims) { Object.assign(this, {type, data, dims}); } }
export const InferenceSession = {create: async path => ({
  inputNames: ["input"],
  run: async ({input}) => {
    window.fed = {model: path, type: input.type, data: [...input.data], dims: input.dims};
    return {probabilities: {data: Float32Array.of(0.125, 0.625, 0.25)}};
  },
})};
"""


@needs_chromium
def test_the_page_of_onnx_prepares_pixels_as_the_client_of_tflite(place, exported):
    playwright = pytest.importorskip("playwright.sync_api")
    pytest.importorskip("ai_edge_litert", reason='needs pip install ".[tflite]"')
    slope = np.linspace(0, 255, 64).astype(np.uint8)
    colors = np.stack([*np.meshgrid(slope, slope), np.full((64, 64), 80, np.uint8)], axis=-1)
    alpha = np.where(np.arange(64) < 32, 255, 0).astype(np.uint8)
    alpha = np.broadcast_to(alpha[:, None, None], (64, 64, 1))
    picture = str(place / "half.png")
    Image.fromarray(np.concatenate([colors, alpha], axis=-1)).save(picture)

    def answer(route):
        name = route.request.url.rpartition("/")[2]
        if name.endswith(".mjs"):
            headers = {"Access-Control-Allow-Origin": "*"}
            return route.fulfill(body=RUNTIME, content_type="text/javascript", headers=headers)
        if name:
            return route.fulfill(path=exported / name)
        return route.fulfill(body=code("onnx"), content_type="text/html")

    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.route("**/*", answer)
        page.goto("http://localhost/")
        page.wait_for_function("!!document.querySelector('input').onchange")
        page.set_input_files("input", picture)
        page.wait_for_function("document.querySelector('pre').textContent")
        fed, printed = page.evaluate("window.fed"), page.inner_text("pre")
        browser.close()
    with inside(place):
        made = run("tflite", {"picture": picture})
    assert (fed["model"], fed["type"]) == ("model.onnx", "float32")
    pixels = np.reshape(fed["data"], fed["dims"])
    assert pixels.shape == made["pixels"].shape
    rows = np.delete(np.arange(16), (7, 8))  # where transparency begins the two blend otherwise
    np.testing.assert_allclose(pixels[:, rows], made["pixels"][:, rows], atol=0.06)
    assert (pixels[:, 9:] == 1).all()
    names = made["labels"]
    assert printed.splitlines() == [
        f"62.5 % {names[1]}",
        f"25.0 % {names[2]}",
        f"12.5 % {names[0]}",
    ]


def test_an_export_becomes_a_version_with_signature_and_example(place, said, uri, monkeypatch):
    client = mlflow.MlflowClient(uri)
    assert str(client.get_model_version_by_alias(NAME, "best").version) == "1"
    version = client.get_model_version(NAME, "1")
    assert version.tags["split"] == "validation" and version.tags["num_examples"] == "24"
    accuracy = float(version.tags["accuracy"])
    assert f"Accuracy of the export: {accuracy:.4f} on 24 examples of split validation" in said
    assert "The alias best is now on version 1." in said
    # The second is the same: it is no better.
    assert version.tags == client.get_model_version(NAME, "2").tags
    assert (
        f"The alias best stays on version 1, whose accuracy on these examples is {accuracy:.4f}."
        in said
    )
    run_id = json.loads((place / "output" / "run.json").read_text())["mlflow_run_id"]
    assert version.run_id == run_id and client.get_run(run_id).info.status == "FINISHED"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    model = mlflow.models.get_model_info(f"models:/{NAME}@best")
    assert model.signature.inputs.to_dict() == [
        {"type": "binary", "name": "image", "required": True}
    ]
    assert model.saved_input_example_info is not None


def test_the_server_of_mlflow_answers_over_http(place, said, uri, pictures, answers, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (line,) = re.findall(r"^MLFLOW_TRACKING_URI=\S+ mlflow (.*) -p 5000 (.*)$", PAGE, re.MULTILINE)
    command = [sys.executable, "-m", "mlflow", *shlex.split(" ".join(line)), "-p", str(port)]
    with open(place / "server.log", "wb") as log:
        server = subprocess.Popen(
            [*command, "--workers=1"],
            cwd=place,
            stdout=log,
            stderr=log,
            env=os.environ
            | {
                "MLFLOW_TRACKING_URI": uri,
                "CUDA_VISIBLE_DEVICES": "-1",
                # As after `source .venv/bin/activate`: MLflow starts uvicorn by its name.
                "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}",
            },
            start_new_session=True,
        )
    (place / "page.jpg").write_bytes(b"<html>")
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", server, place / "server.log")
        given = {"pictures": [*pictures, str(place / "page.jpg")]}
        *found, broken = run("mlflow", given, **{"localhost:5000": f"127.0.0.1:{port}"})["answers"]
        wrong = json.dumps({"dataframe_split": {"columns": ["photo"], "data": [["eA=="]]}}).encode()
        with pytest.raises(urllib.error.HTTPError, match="400") as refused:
            urllib.request.urlopen(
                urllib.request.Request(
                    f"http://127.0.0.1:{port}/invocations",
                    wrong,
                    {"Content-Type": "application/json"},
                )
            )
        refused.value.close()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
    labels = [[name.decode() for name in row] for row in answers["labels"]]
    assert [row["labels"] for row in found] == labels
    probabilities = [row["probabilities"] for row in found]
    np.testing.assert_allclose(probabilities, answers["scores"], atol=1e-5)
    for row in found:
        assert (row["label"], row["probability"]) == (row["labels"][0], row["probabilities"][0])
        assert row["valid"] and row["status"] == ""
    assert not broken["valid"] and broken["status"].startswith("no picture: send JPEG")
    assert broken["label"] == "" and broken["probability"] == 0
    printed = [tuple(line.split()[:2]) for line in capsys.readouterr().out.splitlines()]
    assert printed[:3] == lines_of(pictures, answers)


def wait_for(address, server, log):
    for _ in range(600):
        assert server.poll() is None, log.read_text()
        try:
            return urllib.request.urlopen(address, timeout=10).close()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise TimeoutError(log.read_text())


@pytest.fixture
def versions(uri, request):
    """A client, and a model of two versions that are not measured."""
    client, name = mlflow.MlflowClient(uri), request.node.callspec.id
    client.create_registered_model(name)
    for _ in range(2):
        client.create_model_version(name, source="s3://bucket/model")
    return client, name


VALIDATION = Measured(0.75, "validation", 100, "abc")


@pytest.mark.parametrize(
    "theirs, ours, holder, said",
    [
        (VALIDATION, Measured(0.76, "validation", 100, "abc"), "2", r"from version 1 \(0.7500\)"),
        (VALIDATION, Measured(0.75, "validation", 100, "abc"), "1", r"stays .* accuracy .* 0.7500"),
        (VALIDATION, Measured(0.99, "test", 90, "def"), "1", r"other examples \(split validation"),
        (VALIDATION, None, "1", r"the accuracy of version 2 is unknown"),
        (None, VALIDATION, "1", r"version 1, which was not measured"),
    ],
    ids=["better", "no better", "other examples", "unknown", "former unknown"],
)
def test_the_best_is_the_more_accurate_on_the_same_examples(versions, theirs, ours, holder, said):
    client, name = versions
    for key, value in (theirs.tags if theirs else {}).items():
        client.set_model_version_tag(name, "1", key, value)
    client.set_registered_model_alias(name, "best", "1")
    line = registration.move_best(client, name, "2", ours)
    assert str(client.get_registered_model(name).aliases["best"]) == holder
    assert re.search(said, line)


def test_what_is_measured_comes_back_from_its_tags():
    assert Measured.of(VALIDATION.tags) == VALIDATION
    assert Measured.of({}) is None


@pytest.mark.parametrize(
    "given, message",
    [
        ({"register": "pets"}, "--register needs --tracking=mlflow"),
        ({"register": "a/b", "tracking": "mlflow"}, "--register=a/b: a name is text without / and"),
        (
            {"register": "pets", "tracking": "mlflow", "formats": ("onnx",)},
            "--register needs saved_model",
        ),
    ],
)
def test_what_cant_be_registered_is_refused_at_once(given, message):
    with pytest.raises(UsageError, match=message):
        options.check(job.ExportModelOptions.of(output_dir="x", **given))
