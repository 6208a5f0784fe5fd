"""export_model.py and classify_image.py through their command lines."""

import csv
import io
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets import schema
from foundation.errors import InputError
from nets import checkpoints, nets_factory, slim_names
from preprocessing import preprocessing_factory
from runs import classifiers
from runs import config as run_config
from runs.options import AloneOptions
from serving import frozen_graph, latency
from serving.options import ModelOptions
from tests.conftest import run_script, write_colours
from tests.exports.tiny import export_quickly
from tests.fixtures.slim_parity import weights

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CHECKPOINTS = os.path.join(ROOT, "tests", "fixtures", "slim_parity", "checkpoints")
NET = "small_cnn"
SIZE = 32
LABELS = ("cat", "dog, small", "emu ñ")


def quick():
    latency._SECONDS = 0.0


def run(script, *arguments, first=quick):
    return run_script(script, *map(str, arguments), first=first)


def succeed(script, *arguments, first=quick):
    done = run(script, *arguments, first=first)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fail(script, *arguments, code, message):
    done = run(script, *arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    return done


def jpeg(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def picture():
    return weights.test_image(60, 80)


@pytest.fixture(scope="module")
def model():
    model = nets_factory.build(NET, len(LABELS), SIZE)
    drawn = {name: weights.value(name, v.shape) for name, v in slim_names.variables(model).items()}
    drawn["SmallCnn/logits/weights"] /= 4  # as little moved by a file written anew as MobileNet
    checkpoints.assign(model, drawn)
    return model


@pytest.fixture(scope="module")
def place(tmp_path_factory, model, picture):
    """A training folder and the dataset that it speaks of."""
    place = tmp_path_factory.mktemp("place")
    train_dir, data = str(place / "train"), place / "data"
    data.mkdir()
    with open(data / "pets_train-00000-of-00001.tfrecord", "wb") as file:
        for i in range(10):
            encoded = jpeg(np.roll(picture, 9 * i, axis=1))
            record = schema.Example(
                encoded, "jpeg", 60, 80, i % 3, LABELS[i % 3], f"{i}.jpg", (), f"{i:064x}"
            ).serialize()
            file.write(schema.frame(record))
    (data / "labels.txt").write_text("".join(f"{i}:{name}\n" for i, name in enumerate(LABELS)))
    values = {**checkpoints.values(model), "global_step": np.int64(7)}
    checkpoints.write(os.path.join(train_dir, "model.ckpt-7"), values)
    run_config.save(
        train_dir,
        run_config.RunConfig(
            NET, len(LABELS), LABELS, SIZE, "inception", dataset_dir=str(data), labels_offset=0
        ),
    )
    return place


@pytest.fixture(scope="module")
def export(place):
    said = succeed(
        "export_model.py", f"--checkpoint_path={place}/train", f"--output_dir={place}/export"
    )
    assert "on 10 pictures of pets, split train, of which the checkpoint has" in said
    head, first, second = said.partition("right:\n")[2].splitlines()[:3]
    assert head.split()[:3] == ["file", "numbers", "size"]
    for line, file in ((first, "saved_model/1"), (second, "frozen_graph.pb")):
        assert line.split()[:2] == [f"{place}/export/{file}", "float32"]
        assert "100.0 %" in line and line.count(" ms") == 2
    assert "turns photographs as their EXIF says and lays transparency on white" in said
    assert "probabilities are in class order; classes, labels and scores are best first" in said
    return place / "export"


@pytest.fixture(scope="module")
def expected(model, picture):
    """What the picture is, by the net and the recipe themselves."""
    pixels = preprocessing_factory.get("inception").evaluate(jpeg(picture), SIZE)
    probabilities = tf.nn.softmax(model(pixels[None], training=False)["logits"])[0].numpy()
    return sorted(zip(LABELS, probabilities.tolist(), strict=True), key=lambda pair: -pair[1])


def test_an_export_by_run_json(export):
    assert sorted(os.listdir(export)) == [
        "export.json",
        "frozen_graph.pb",
        "labels.txt",
        "saved_model",
    ]
    said = json.loads((export / "export.json").read_text())
    run = said["run"]
    assert (run["model_name"], run["image_size"], run["preprocessing_name"]) == (
        NET,
        SIZE,
        "inception",
    )
    assert run["labels"] == list(LABELS)
    assert (said["checkpoint"], said["global_step"]) == ("model.ckpt-7", 7)
    assert said["check"]["source"] == "pictures of pets, split train"
    assert (
        said["check"]["largest_difference"]["saved_model (turned and transparent pictures)"] < 1e-3
    )
    assert not said["moving_averages"]
    names = [line.split(":", 1)[1] for line in (export / "labels.txt").read_text().splitlines()]
    assert tuple(names) == LABELS


def test_a_second_version_stands_beside_the_first(place, export):
    before = (export / "export.json").read_bytes()
    said = succeed(
        *("export_model.py", f"--checkpoint_path={place}/train", f"--output_dir={export}"),
        "--saved_model_version=auto",
        first=export_quickly,
    )
    assert f"{export}/saved_model/2" in said and "frozen_graph" not in said
    assert (export / "export.json").read_bytes() == before
    shutil.rmtree(export / "saved_model" / "2")


def test_the_served_graph_turns_photographs_as_training_saw_them(export, picture, expected):
    serve = tf.saved_model.load(str(export / "saved_model" / "1")).signatures["serving_default"]
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = jpeg(np.rot90(picture).copy(), exif=exif)
    answer = serve(encoded_images=tf.constant([turned, jpeg(picture), b"<html>"]))
    assert answer["valid"].numpy().tolist() == [True, True, False]
    for row, tolerance in ((0, 0.01), (1, 1e-5)):
        found = dict(zip(LABELS, answer["probabilities"].numpy()[row], strict=True))
        assert found == pytest.approx(dict(expected), abs=tolerance)
        np.testing.assert_allclose(
            answer["scores"][row], [value for _, value in expected], atol=tolerance
        )


def test_pictures_of_all_kinds_are_classified_and_bad_ones_named(
    export, picture, expected, tmp_path
):
    (tmp_path / "upright.jpg").write_bytes(jpeg(picture))
    exif = Image.Exif()
    exif[0x0112] = 6  # Taken with the camera turned: to be shown a quarter turn clockwise.
    (tmp_path / "turned.jpg").write_bytes(jpeg(np.rot90(picture).copy(), exif=exif))
    Image.fromarray(picture).save(tmp_path / "named_wrongly.gif", "WEBP", lossless=True)
    (tmp_path / "page.jpg").write_text("<html>")
    (tmp_path / "notes.txt").write_text("not taken from a folder")
    (tmp_path / "lost.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    Image.fromarray(picture).save(tmp_path / "without_suffix", "JPEG2000")
    Image.fromarray(picture).save(tmp_path / "light.avif", quality=95)
    (tmp_path / "iphone.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    done = fail(
        "classify_image.py",
        f"--model={export}",
        "--image",
        tmp_path,
        tmp_path / "upright.jpg",
        f"{tmp_path}/absent.jpg",
        "--top_k=2",
        f"--json={tmp_path}/answers.json",
        f"--csv={tmp_path}/answers.csv",
        code=1,
        message="4 of 9 pictures could not be classified",
    )
    assert f"Left out: 1 file that is no picture ({tmp_path}/notes.txt)\n" in done.stderr
    assert f"{tmp_path}/iphone.HEIC: " in done.stderr
    assert f"{tmp_path}/page.jpg: not an image: begins with b'<html>'\n" in done.stderr
    assert f"{tmp_path}/lost.jpg: No such file or directory\n" in done.stderr
    assert f"{tmp_path}/absent.jpg: No such file or directory\n" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["picture", "class", "probability"]
    assert len(lines) == 1 + 5 * 2
    label, probability = expected[0]
    assert any(
        "upright.jpg" in line and line.endswith(f"{label:10}  {100 * probability:9.2f} %")
        for line in lines
    )

    answers = json.loads((tmp_path / "answers.json").read_text())
    answers, problems = answers[:5], answers[5:]
    assert len(problems) == 4 and all(one["problem"] for one in problems)
    assert [os.path.basename(answer["filename"]) for answer in answers] == [
        "light.avif",
        "named_wrongly.gif",
        "turned.jpg",
        "upright.jpg",
        "without_suffix",
    ]
    for answer, tolerance in zip(answers, (0.02, 0.01, 0.01, 1e-5, 0.01), strict=True):
        assert [found["label"] for found in answer["classes"]] == [name for name, _ in expected[:2]]
        found = [found["probability"] for found in answer["classes"]]
        np.testing.assert_allclose(found, [value for _, value in expected[:2]], atol=tolerance)
    rows = list(csv.reader((tmp_path / "answers.csv").read_text("utf-8").splitlines()))
    assert rows[0] == [*("filename", "label", "probability", "label_2", "probability_2", "problem")]
    assert len(rows) == 1 + 9
    assert rows[4][1:4:2] == [name for name, _ in expected[:2]] and rows[4][5] == ""
    assert all(row[1] == "" and row[5] for row in rows[6:])


def test_the_frozen_graph_is_given_the_recipe_of_its_export(export, picture, expected, tmp_path):
    (tmp_path / "upright.jpg").write_bytes(jpeg(picture))
    said = succeed(
        "classify_image.py",
        f"--model={export}/frozen_graph.pb",
        f"--image={tmp_path}/*.jpg",
        f"--json={tmp_path}/answers.json",
    )
    (answer,) = json.loads((tmp_path / "answers.json").read_text())
    found = {found["label"]: found["probability"] for found in answer["classes"]}
    assert found == pytest.approx(dict(expected), abs=1e-5)
    assert len(said.splitlines()) == 4


def test_names_for_another_number_of_classes_are_refused(export, tmp_path):
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    given = AloneOptions.of(labels=str(tmp_path / "names.txt"))
    with pytest.raises(InputError, match=r"--labels=.*names\.txt: 2 names for a model of 3"):
        classifiers.open_model(ModelOptions.of(model=f"{export}/saved_model/1"), given)


def test_names_of_any_script_on_a_terminal_of_any_encoding(export, picture, tmp_path):
    """`LABELS` hold an ñ, which latin-1 has, and these are Greek, which it lacks."""
    shutil.copytree(export, tmp_path / "export")
    (tmp_path / "export" / "labels.txt").write_text("0:γάτα\n1:σκύλος\n2:αετός\n", "utf-8")
    (tmp_path / "φωτο.jpg").write_bytes(jpeg(picture))
    model, answers = tmp_path / "export" / "frozen_graph.pb", tmp_path / "answers.csv"
    done = run_script(
        "classify_image.py",
        *(f"--model={model}", f"--csv={answers}", str(tmp_path / "φωτο.jpg")),
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert done.returncode == 0, done.stderr
    assert "????" in done.stdout
    assert "σκύλος" in answers.read_text("utf-8") and "φωτο.jpg" in answers.read_text("utf-8")


# Checkpoints of TF-Slim's own, without run.json.

SLIM_NET = "mobilenet_v1_025"


def expectations():
    with open(os.path.join(CHECKPOINTS, "expected.json"), encoding="utf-8") as file:
        return json.load(file)


def logits_of(graph, nodes):
    net, _ = frozen_graph.load(str(graph), nodes)
    return net(weights.input_images(128))["logits"]


NODES = frozen_graph.Nodes("MobilenetV1/Logits/SpatialSqueeze", "MobilenetV1/Predictions/Reshape_1")


def test_tf_slims_export_command_line_gives_a_graph_with_weights(tmp_path):
    graph = tmp_path / "net.pb"
    said = succeed(
        "export_model.py",
        f"--checkpoint_path={CHECKPOINTS}/train_dir",
        f"--model_name={SLIM_NET}",
        "--image_size=128",
        "--moving_average_decay=0.999",
        f"--output_file={graph}",
        "--write_text_graphdef",
        "--is_training",
        "False",
    )
    assert f"no run.json: taken as {SLIM_NET} with 5 classes, preprocessing inception" in said
    assert "named by their numbers" in said
    assert sorted(os.listdir(tmp_path)) == [
        "net.export.json",
        "net.labels.txt",
        "net.pb",
        "net.pbtxt",
    ]
    wanted = expectations()["train_dir (5 classes, model.ckpt-3)"]["logits_with_moving_averages"]
    np.testing.assert_allclose(logits_of(graph, NODES), wanted, atol=1e-4 * np.max(np.abs(wanted)))


@pytest.mark.parametrize("source", ["file", "dataset"])
def test_a_zoo_checkpoint_gets_its_background_class(tmp_path, source):
    names = "".join(f"name {i}\n" for i in range(1000))
    (tmp_path / "names.txt").write_text(names)
    flag = f"--labels_file={tmp_path}/names.txt"
    if source == "dataset":
        flag = f"--dataset_dir={write_colours(tmp_path / 'data', per_class=2)}"
        numbered = "".join(f"{i}:{name}\n" for i, name in enumerate(names.splitlines()))
        (tmp_path / "data" / "labels.txt").write_text(numbered)
    said = succeed(
        "export_model.py",
        f"--checkpoint_path={CHECKPOINTS}/zoo_v1/mobilenet_v1_0.25_128.ckpt",
        f"--model_name={SLIM_NET}",
        "--image_size=128",
        "--formats=frozen_graph",
        flag,
        f"--output_dir={tmp_path}/export",
    )
    assert "with 1001 classes" in said
    assert "class 0 is the background" in said
    labels = (tmp_path / "export" / "labels.txt").read_text().splitlines()
    assert labels[:2] + labels[-1:] == ["0:background", "1:name 0", "1000:name 999"]
    wanted = expectations()["zoo_v1 and zoo_v2 (1001 classes)"]["logits_first5"]
    found = logits_of(tmp_path / "export" / "frozen_graph.pb", NODES)[:, :5]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


# What is refused.


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["--image_size=64", "--model_name=inception_v3"],
            "--model_name=inception_v3, but the run has small_cnn; "
            "--image_size=64, but the run has 32",
        ),
        (["--moving_average_decay=0.9"], "--moving_average_decay=0.9, but the run has None"),
        (["--labels_file=names.txt"], "names the classes. Leave the flag out"),
        (["--dataset_name=birds"], "--dataset_name=birds: "),
        (["--dataset_split_name=holdout"], "--dataset_split_name=holdout"),
    ],
)
def test_flags_that_contradict_the_run_are_shown_with_both_values(
    place, tmp_path, arguments, message
):
    common = (f"--checkpoint_path={place}/train", f"--output_dir={tmp_path}/export")
    fail("export_model.py", *common, *arguments, code=1, message=message)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "say where to write: --output_dir=FOLDER"),
        (["--output_dir=x", "--output_file=y.pb"], "say where to write"),
        (["--output_dir=x", "--is_training"], "--is_training: the training form of a net"),
        (["--output_dir=x", "--quantize"], "export_model.py --formats=tflite"),
        (["--output_dir=x", "--is_video_model"], "videos are not supported"),
        (["--output_dir=x", "--formats=keras"], "--formats=keras: unknown. Choose of saved_model,"),
        (["--output_dir=x", "--formats="], "--formats is empty"),
        (["--output_dir=x", "--saved_model_version=0"], "is neither a number from 1 nor auto"),
        (["--output_file=x.pb", "--saved_model_version=2"], "--saved_model_version needs"),
        (["--output_file=x.pb", "--formats=onnx"], "--formats needs --output_dir"),
        (["--output_file=x.onnx"], "--output_file=x.onnx: its name must end in .pb"),
        (["--output_dir=x", "--tflite_quantization=float16"], "needs tflite among --formats"),
        (["--output_dir=x", "--formats=tflite", "--write_text_graphdef"], "needs frozen_graph"),
        (["--output_dir=x", "--dataset_dir=d", "--labels_file=l"], "Give one of them"),
        (["--output_dir=x", "stray"], "unexpected argument 'stray'"),
    ],
)
def test_flags_that_make_no_sense_are_refused_at_once(arguments, message):
    fail("export_model.py", *arguments, code=2, message=message)


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["photo.jpg"], 2, "say what to classify with: --model=FOLDER"),
        (["--model=x"], 2, "say what to classify: --image=FILE"),
        (["--model=x", "--top_k=0", "--image=y"], 2, "--top_k=0"),
        (["--model=absent", "p.jpg"], 1, "--model=absent: does not exist. Write one with export"),
        ([f"--model={ROOT}", "--image=*.nothing"], 1, "--image=*.nothing: no picture there"),
    ],
)
def test_nothing_to_do_is_said_at_once(arguments, code, message):
    fail("classify_image.py", *arguments, code=code, message=message)


def test_a_training_and_its_export_explain_alike(place, export, picture):
    from runs import explained

    encoded = [jpeg(picture), jpeg(picture[::-1])]
    (first, second), (_, other) = (
        explained.explainer(str(path), lambda line: None)(encoded, [0, 2])
        for path in (place / "train", export)
    )
    assert second.picture.shape == (SIZE, SIZE, 3) and not np.array_equal(first.heat, second.heat)
    np.testing.assert_allclose(other.heat, second.heat, atol=1e-3)
    # The graph's decoder and Python's are one, and so are the pixels.
    np.testing.assert_array_equal(other.picture, second.picture)
    assert second.overlay.shape == (SIZE, SIZE, 3)


def test_formats_without_gradients_are_not_explained(export):
    from runs import explained

    with pytest.raises(ValueError, match=r"frozen_graph.pb: this format keeps no gradients"):
        explained.explainer(str(export / "frozen_graph.pb"))
