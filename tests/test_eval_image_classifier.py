"""eval_image_classifier.py through its command line."""

import csv
import io
import json
import os
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from datasets import schema
from evaluation.report import words
from nets import checkpoints, nets_factory
from preprocessing import preprocessing_factory
from runs import config as run_config
from tests.conftest import ROOT, blank_figures, run_script
from tests.fixtures.slim_parity import weights

CHECKPOINTS = ROOT / "tests/fixtures/slim_parity/checkpoints"
NET, SIZE = "lenet", 28
LABELS = ("cat", "dog", "emu")
COUNT = 13


def run(*arguments, first=blank_figures):
    return run_script("eval_image_classifier.py", *map(str, arguments), first=first)


def succeed(*arguments, **options):
    done = run(*arguments, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fail(*arguments, message, code=1):
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def write_records(path, labels, names, start=0):
    """Pictures whose content depends on their number; returns their PNG bytes."""
    pictures = []
    with open(path, "wb") as file:
        for i, label in enumerate(labels, start):
            picture = io.BytesIO()
            Image.fromarray(np.roll(weights.test_image(40, 50), 7 * i, axis=1)).save(picture, "PNG")
            pictures.append(picture.getvalue())
            record = schema.Example(
                pictures[-1], "png", 40, 50, label, names[label], f"{i}.png", (), f"{i:064x}"
            ).serialize()
            file.write(schema.frame(record))
    return pictures


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A dataset without a test split, and a run that was trained on it."""
    place = tmp_path_factory.mktemp("place")
    data = place / "data"
    data.mkdir()
    write_records(data / "pets_train-00000-of-00001.tfrecord", [0, 1, 2], LABELS, start=100)
    for shard, numbers in enumerate((range(8), range(8, COUNT))):
        path = data / f"pets_validation-0000{shard}-of-00002.tfrecord"
        write_records(path, [i % 3 for i in numbers], LABELS, start=numbers.start)
    (data / "labels.txt").write_text("".join(f"{i}:{name}\n" for i, name in enumerate(LABELS)))
    model = nets_factory.build(NET, len(LABELS), SIZE, 3)
    values = {**checkpoints.values(model), "global_step": np.int64(7)}
    checkpoints.write(str(place / "train/model.ckpt-7"), values)
    config = run_config.RunConfig(
        NET, len(LABELS), LABELS, SIZE, "lenet", dataset_dir=str(data), dataset_name="pets"
    )
    run_config.save(str(place / "train"), config)
    return place


def softmax(model, recipe, size, count, first_class=0):
    """What a net makes of the first pictures, one by one and without tf.data."""
    evaluate = preprocessing_factory.get(recipe).evaluate
    pictures = write_records(os.devnull, [0] * count, [""])
    images = np.stack([evaluate(picture, size) for picture in pictures])
    logits = model(images, training=False)["logits"][:, first_class:]
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))


@pytest.fixture(scope="module")
def expected(place):
    """Probabilities for the validation split."""
    model = nets_factory.build(NET, len(LABELS), SIZE, 3)
    checkpoints.restore(model, str(place / "train"))
    return softmax(model, "lenet", SIZE, COUNT)


def full_memory():
    import tensorflow as tf

    from evaluation import evaluator

    def fail(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    evaluator.evaluate = fail


def test_more_than_memory_holds_is_one_line_with_the_batch_to_try(place, tmp_path):
    words = (f"--checkpoint_path={place}/train", f"--eval_dir={tmp_path}/eval", "--batch_size=64")
    done = run_script("eval_image_classifier.py", *words, first=full_memory)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert "--batch_size=64: is more than memory holds. Try --batch_size=32" in line


def test_everything_comes_from_the_run(place, expected):
    words_given = (f"--checkpoint_path={place}/train", f"--eval_dir={place}/eval")
    said = succeed(*words_given, "--batch_size=4", first=None)
    assert "no such split, but train, validation. Evaluating the validation split." in said
    # Of a run of ours all variables are known: the optimizer's are no news.
    assert "model.ckpt-7: 8 variables restored.\n" in said and "unused" not in said
    labels = np.arange(COUNT) % 3
    right = np.argmax(expected, axis=1) == labels
    assert said.splitlines()[-1] == f"eval/Accuracy[{np.mean(right):.4f}]"
    assert "Recall_5" not in said  # of three classes it is always 1
    numbers = json.loads((place / "eval/metrics.json").read_text())
    assert numbers["accuracy"] == np.mean(right)
    assert numbers["num_examples"] == COUNT
    assert numbers["global_step"] == 7
    # The page can name each of them in French.
    shown = {name.replace("_", " ") for name in numbers if "_interval_" not in name}
    assert shown - {"reliability"} <= words.known_sentences()
    page = (place / "eval/report.html").read_text(encoding="utf-8")
    assert "Grad-CAM" in page and '"heat": {"' in page
    with open(place / "eval/predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["filename"] for row in rows] == [f"{i}.png" for i in range(COUNT)]
    assert [row["prediction"] for row in rows] == [LABELS[i] for i in np.argmax(expected, axis=1)]
    surest = [float(row["probability_1"]) for row in rows]
    np.testing.assert_allclose(surest, expected.max(axis=1), atol=1e-5)


def test_old_command_line_with_the_file_the_run_was_trained_on(place, expected):
    """As users of TF-Slim type it, options apart from their values."""
    train_dir = place / "train_on_file"
    shutil.copytree(place / "train", train_dir)
    file = place / "data/pets_validation-00000-of-00002.tfrecord"
    config = run_config.RunConfig(
        NET, len(LABELS), LABELS, SIZE, "lenet", tfrecord_file=str(file), dataset_split_name="train"
    )
    run_config.save(str(train_dir), config)
    said = succeed(
        *("--model_name", NET, "--eval_dir", place / "output_eval/", "--checkpoint_path"),
        *(f"{train_dir}/", "--batch_size", 8, "--eval_image_size", SIZE),
    )
    assert f"Evaluating on {file}, which the run was trained on" in said
    right = np.argmax(expected[:8], axis=1) == np.arange(8) % 3
    assert f"eval/Accuracy[{np.mean(right):.4f}]" in said


def test_max_num_batches_and_bfloat16_and_a_checkpoint_by_its_file(place):
    said = succeed(
        f"--checkpoint_path={place}/train/model.ckpt-7",
        f"--eval_dir={place}/eval_part",
        "--dataset_split_name=validation",
        "--batch_size=3",
        "--max_num_batches=2",
        "--precision=bfloat16",
    )
    assert "of 6 are right" in said
    assert "no such split" not in said
    assert json.loads((place / "eval_part/metrics.json").read_text())["precision"] == "bfloat16"


@pytest.fixture(scope="module")
def slim_data(tmp_path_factory):
    """Records for the checkpoints that TF-Slim wrote: two pictures, of 5 or of 1000 classes."""
    place = tmp_path_factory.mktemp("slim")
    for count in (5, 1000):
        folder = place / str(count)
        folder.mkdir()
        names = [f"class {i}" for i in range(count)]
        write_records(folder / "things_test-00000-of-00001.tfrecord", [0, 4], names)
        (folder / "labels.txt").write_text("".join(f"{i}:{n}\n" for i, n in enumerate(names)))
    return place


def test_what_a_net_makes_of_a_picture(place, tmp_path):
    from foundation.errors import UsageError
    from runs.options import EvaluateOptions
    from runs.visualize import visualize

    (tmp_path / "other").mkdir()
    for path in (tmp_path / "a b.png", tmp_path / "other" / "a_b.jpg"):
        Image.fromarray(weights.test_image(40, 60)).save(path)
    given = {"checkpoint_path": str(place / "train"), "eval_dir": str(tmp_path / "eval")}
    pictures = (str(tmp_path / "a b.png"), str(tmp_path / "other"))
    said = []
    paths = visualize(
        EvaluateOptions.of(**given, visualize=pictures, end_points=("conv2",), filters=3),
        said.append,
    )
    names = sorted(os.listdir(tmp_path / "eval"))
    assert names == sorted(os.path.basename(path) for path in paths)
    assert names == [
        *("a_b-2.grad_cam.png", "a_b-2.maps.png", "a_b.grad_cam.png", "a_b.maps.png"),
        "filters.png",
    ]
    for path in paths:
        with Image.open(path) as picture:
            assert picture.width > 300 and np.asarray(picture.convert("RGB")).std() > 10
    assert "Feature maps of conv2:" in said
    with pytest.raises(
        ValueError, match=r"--end_points: conv9 is not one of .* Choose of conv2, conv1\."
    ):
        visualize(EvaluateOptions.of(**given, visualize=pictures, end_points=("conv9",)), print)
    # A picture whose name is what a later one of the same name would get has its own files, too.
    numbered = [tmp_path / name for name in ("n.png", "n-3.png", "other/n.png")]
    for path in numbered:
        Image.fromarray(weights.test_image(40, 60)).save(path)
    paths = visualize(
        EvaluateOptions.of(**given, visualize=tuple(map(str, numbered)), end_points=("conv2",)),
        print,
    )
    assert len(set(paths)) == 7
    (tmp_path / "bad.png").write_text("nothing")
    with pytest.raises(ValueError, match=r"--visualize: .*bad.png: not an image"):
        visualize(EvaluateOptions.of(**given, visualize=(str(tmp_path / "bad.png"),)), print)
    with pytest.raises(UsageError, match="--filters needs --visualize"):
        EvaluateOptions.of(**given, filters=3).visualization.check()


def probabilities_of(predictions_csv):
    with open(predictions_csv, newline="", encoding="utf-8") as file:
        return [float(row["probability_1"]) for row in csv.DictReader(file)]


def test_training_folder_of_tf_slim(slim_data):
    """Its `checkpoint` file has absolute paths of another machine; averages are asked for."""
    said = succeed(
        f"--checkpoint_path={CHECKPOINTS}/train_dir",
        f"--eval_dir={slim_data}/eval",
        f"--dataset_dir={slim_data}/5",
        "--model_name=mobilenet_v1_025",
        "--eval_image_size=128",
        "--moving_average_decay=0.9999",
    )
    assert "has no run.json: taken as mobilenet_v1_025 with 5 classes" in said
    numbers = json.loads((slim_data / "eval/metrics.json").read_text())
    assert numbers["global_step"] == 3 and numbers["moving_averages"] is True
    model = nets_factory.build("mobilenet_v1_025", 5, 128)
    surest = []
    for averages in (True, False):
        path = str(CHECKPOINTS / "train_dir")
        checkpoints.restore(model, path, use_moving_averages=averages)
        surest.append(np.max(softmax(model, "inception", 128, 2), axis=1))
    found = probabilities_of(slim_data / "eval/predictions.csv")
    np.testing.assert_allclose(found, surest[0], atol=1e-5)
    assert np.abs(found - surest[1]).max() > 1e-4


def test_zoo_checkpoint_with_its_background_class(slim_data):
    said = succeed(
        f"--checkpoint_path={CHECKPOINTS}/zoo_v1/mobilenet_v1_0.25_128.ckpt",
        f"--eval_dir={slim_data}/eval_zoo",
        f"--dataset_dir={slim_data}/1000",
        "--model_name=mobilenet_v1_025",
        "--eval_image_size=128",
    )
    assert "class 0 is the background of mobilenet_v1_025, and is left out" in said
    model = nets_factory.build("mobilenet_v1_025", 1001, 128)
    checkpoints.restore(model, str(CHECKPOINTS / "zoo_v1/mobilenet_v1_0.25_128.ckpt"))
    best = np.argmax(softmax(model, "inception", 128, 2, first_class=1), axis=1)
    with open(slim_data / "eval_zoo/predictions.csv", newline="", encoding="utf-8") as file:
        assert [row["prediction"] for row in csv.DictReader(file)] == [f"class {i}" for i in best]


def test_another_number_of_classes_is_said_without_a_flag_of_training(slim_data, tmp_path):
    for folder, names in (("7", "abcdefg"), ("6", "abcdef")):
        (tmp_path / folder).mkdir()
        write_records(tmp_path / folder / "x_test-00000-of-00001.tfrecord", [0, 1], names)
        (tmp_path / folder / "labels.txt").write_text("\n".join(names))
    done = run(
        f"--checkpoint_path={CHECKPOINTS}/train_dir",
        f"--eval_dir={tmp_path}/eval",
        f"--dataset_dir={tmp_path}/7",
        "--model_name=mobilenet_v1_025",
        "--eval_image_size=128",
    )
    assert done.returncode == 1 and "has 5 classes, but 7 are named." in done.stderr
    assert "checkpoint_exclude_scopes" not in done.stderr


def test_tensorboard_is_shown_where_the_events_are(place, tmp_path):
    """Those of a training lie above its best/."""
    tmp_path /= "of mine"
    shutil.copytree(place / "train", tmp_path / "run" / "best")
    (tmp_path / "run" / "events.out.tfevents.1").write_bytes(b"")
    base = (f"--eval_dir={tmp_path}/eval", "--max_num_batches=1", "--batch_size=2")
    said = succeed(f"--checkpoint_path={tmp_path}/run/best", *base)
    assert f"'--logdir_spec=train:{tmp_path}/run,eval:{tmp_path}/eval'\n" in said
    (tmp_path / "run" / "events.out.tfevents.1").unlink()
    said = succeed(f"--checkpoint_path={tmp_path}/run/best", *base)
    assert f"'--logdir_spec=eval:{tmp_path}/eval'\n" in said


def test_values_that_contradict_the_run(place):
    base = f"--checkpoint_path={place}/train"
    fail(base, "--eval_image_size=32", message="--eval_image_size=32, but the run has 28")
    fail(base, "--model_name=vgg_16", message="--model_name=vgg_16, but the run has lenet")
    fail(
        base, "--preprocessing_name=vgg", message="--preprocessing_name=vgg, but the run has lenet"
    )
    fail(base, "--use_grayscale", message="--use_grayscale=True, but the run has False")
    fail(
        base,
        "--moving_average_decay=0.9",
        message="--moving_average_decay=0.9, but the run has None",
    )


def test_errors_are_one_line(place, tmp_path):
    fail(f"--checkpoint_path={tmp_path}", message=f"{tmp_path}: no checkpoint there.")
    slims = tmp_path / "slims"
    slims.mkdir()
    (slims / "model.ckpt-1.index").touch()
    fail(f"--checkpoint_path={slims}", message="say where the data is", code=2)
    fail(
        f"--checkpoint_path={tmp_path}",
        f"--dataset_dir={place}/data",
        message=f"{tmp_path}: no checkpoint there.",
    )
    fail(f"--checkpoint_path={tmp_path}/nope", message="there is no such folder or checkpoint")
    (tmp_path / "file").write_text("")
    fail(
        f"--checkpoint_path={place}/train",
        f"--eval_dir={tmp_path}/file/eval",
        message="/file/eval can't be made or written: Not a directory",
    )
    fail(
        f"--checkpoint_path={place}/train",
        "--eval_dir=/proc",  # takes no files, not even from root
        message="--eval_dir=/proc: /proc can't be made or written: ",
    )
    fail(
        f"--checkpoint_path={place}/train",
        "--dataset_split_name=holdout",
        f"--eval_dir={tmp_path}/eval",
        message="--dataset_split_name=holdout",
    )
    assert not (tmp_path / "eval").exists()
    fail(
        f"--checkpoint_path={place}/train",
        "--dataset_name=birds",
        message="--dataset_name=birds: ",
    )
    other = tmp_path / "other"
    other.mkdir()
    write_records(other / "x_test-00000-of-00001.tfrecord", [0, 1], ["ant", "bee"])
    fail(
        f"--checkpoint_path={place}/train",
        f"--dataset_dir={other}",
        message="trained on the classes cat, dog, emu (3), the dataset has ant, bee (2)",
    )
    fail("--quantize", message="--formats=tflite", code=2)


def test_damaged_record_is_named_or_passed_over(place, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(place / "data", data)
    path = data / "pets_validation-00001-of-00002.tfrecord"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    base = (
        f"--checkpoint_path={place}/train",
        f"--dataset_dir={data}",
        f"--eval_dir={tmp_path}/eval",
        "--dataset_split_name=validation",
    )
    fail(*base, message=f"{path}: record ")
    said = succeed(*base, "--max_bad_records=1")
    assert said.count(f"Passed over 1 record that cannot be read:\n  {path}: record ") == 2
    about = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert len(about["bad_records"]) == 1 and str(path) in about["files"]
    assert f"of {COUNT - 1} are right" in said
