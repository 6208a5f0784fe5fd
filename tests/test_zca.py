"""ZCA whitening: fitted at conversion, used in training, followed by evaluation and export."""

import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from foundation.errors import InputError
from preprocessing import preprocessing_factory, zca
from preprocessing.options import PixelsOptions
from runs import classify, evaluate, export, train
from runs.options import ClassifyImageOptions, EvaluateOptions, ExportModelOptions, TrainOptions
from tests.conftest import run_script

SIDE = 8
SMALLEST = {"model_name": "small_cnn", "small_cnn_filters": (4,), "small_cnn_dense_units": 4}
SMALLEST |= {"train_image_size": SIDE, "batch_size": 8}


def _fitted(path):
    """What a file of a whitening holds."""
    with np.load(path) as file:
        return dict(file)


def _smooth(rng):
    """A picture whose pixels hang together, as PNG."""
    coarse = rng.integers(0, 256, (3, 3, 3), np.uint8)
    picture = Image.fromarray(coarse).resize((24, 16), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


def test_whitened_images_are_not_correlated(tmp_path):
    rng = np.random.default_rng(0)
    # Independent noise on top gives every direction some variance.
    base = rng.integers(40, 200, (3000, 1, 48))
    images = np.clip(
        base + rng.integers(-40, 40, (3000, 1, 48)) + base.mean(axis=2)[..., None], 0, 255
    )
    images = images.astype(np.uint8)
    fit = zca.Fit(4, 1e-8)
    for image in images:
        fit.add(image.tobytes())
    fit.save(str(tmp_path / "zca.npz"))
    recipe = preprocessing_factory.get(
        "lenet", PixelsOptions(normalization="zca"), zca=zca.Whitening(str(tmp_path / "zca.npz"))
    )
    assert (recipe.size, recipe.value_range) == (4, None)
    batch = tf.constant(images.reshape(-1, 4, 4, 3), tf.float32)
    white = recipe.to_input(batch).numpy().reshape(3000, 48)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(48), atol=2e-3)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-3)
    # Of all whitening matrices, ZCA's is the symmetric one: pictures stay like themselves.
    matrix = _fitted(tmp_path / "zca.npz")["matrix"]
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-4)
    one = recipe.evaluate_image(batch[0], 4).numpy()
    np.testing.assert_allclose(one.ravel(), white[0], atol=1e-3)


def test_epsilon_keeps_what_hardly_varies_small(tmp_path):
    rng = np.random.default_rng(1)
    images = np.full((500, 48), 100, np.uint8) + rng.integers(0, 2, (500, 48), np.uint8)
    largest = {}
    for epsilon in (1e-8, 1e-2):
        fit = zca.Fit(4, epsilon)
        for image in images:
            fit.add(image.tobytes())
        fit.save(str(tmp_path / "zca.npz"))
        largest[epsilon] = np.abs(_fitted(tmp_path / "zca.npz")["matrix"]).max()
    assert largest[1e-8] > 100 > 11 > largest[1e-2]


def test_no_more_than_a_limit_is_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(zca, "MAX_EXAMPLES", 300)
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 256, 48, np.uint8).tobytes() for _ in range(400)]
    means = []
    for count in (300, 400):
        fit = zca.Fit(4, 0.01)
        for image in images[:count]:
            fit.add(image)
        fit.save(str(tmp_path / "zca.npz"))
        means.append(_fitted(tmp_path / "zca.npz")["mean"])
    np.testing.assert_array_equal(*means)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A converted dataset with its whitening."""
    folder = tmp_path_factory.mktemp("zca")
    rng = np.random.default_rng(3)
    for label in ("cat", "dog"):
        (folder / "images" / label).mkdir(parents=True)
        for i in range(60):
            (folder / "images" / label / f"{i}.png").write_bytes(_smooth(rng))
    result = _convert(folder)
    assert result.returncode == 0, result.stderr
    return folder


def _convert(folder, *more):
    flags = (f"--image_dir={folder}/images", f"--output_dir={folder}/data", "--num_shards=1")
    return run_script("convert_data.py", *flags, f"--zca_size={SIDE}", *more)


def test_conversion_fits_to_training_photographs_only(data):
    described = json.loads((data / "data" / "dataset.json").read_text())
    assert "zca.npz" in described["files"]
    fit = zca.Fit(SIDE, 0.01)
    names = [f"data_train-{0:05}-of-{1:05}.tfrecord"]
    for name in names:
        for record in tf.data.TFRecordDataset(str(data / "data" / name)).as_numpy_iterator():
            example = tf.train.Example.FromString(record)
            encoded = example.features.feature["image/encoded"].bytes_list.value[0]
            fit.add(fit.shrunk(encoded))
    fit.save(str(data / "own.npz"))
    own, written = _fitted(data / "own.npz"), _fitted(data / "data" / "zca.npz")
    for name in ("size", "mean", "matrix"):
        np.testing.assert_array_equal(own[name], written[name])
    again = _convert(data)
    assert "Already converted" in again.stdout, again.stderr
    other = _convert(data, "--zca_epsilon=0.1")
    assert other.returncode == 1 and "made without --zca_epsilon" in other.stderr


def test_training_evaluation_and_export_follow(data, tmp_path, no_figures):
    run_dir, lines = tmp_path / "run", []
    given = {"dataset_dir": str(data / "data"), "train_dir": str(run_dir)} | SMALLEST
    given |= {"normalization": "zca"}
    train.train(TrainOptions.of(**given, max_number_of_steps=4, eval_every_n_steps=4), print)
    name = json.loads((run_dir / "run.json").read_text())["preprocessing_options"]["zca_file"]
    whole = (data / "data" / "zca.npz").read_bytes()
    assert (run_dir / name).read_bytes() == whole
    assert (run_dir / "best" / name).read_bytes() == whole
    # The dataset may be fitted anew: the run keeps what it was trained with.
    train.train(TrainOptions.of(**given, max_number_of_steps=6), lines.append)
    assert any("Resuming" in line for line in lines)
    asked = {"checkpoint_path": str(run_dir / "best"), "eval_dir": str(tmp_path / "eval")}
    evaluate.evaluate(EvaluateOptions.of(**asked), print)
    with pytest.raises(InputError, match="is fitted to images of 8 pixels, and 9 are wanted"):
        evaluate.evaluate(EvaluateOptions.of(**asked, tta="five_crop"), print)
    exports = {"output_dir": tmp_path / "export"}, {"output_file": tmp_path / "single/graph.pb"}
    (tmp_path / "single").mkdir()
    for place in exports:
        place = {name: str(path) for name, path in place.items()}
        export.export(ExportModelOptions.of(checkpoint_path=str(run_dir), **place), print)
    numbers = []
    for model in ("export", "export/frozen_graph.pb", "single/graph.pb"):
        asked = {"model": str(tmp_path / model), "image": (str(data / "images/cat/0.png"),)}
        asked |= {"json": str(tmp_path / "answers.json")}
        assert not classify.classify(ClassifyImageOptions.of(**asked), print).failures
        numbers.append(_numbers(json.loads((tmp_path / "answers.json").read_text())))
    np.testing.assert_allclose(numbers[1], numbers[0], atol=1e-5)
    np.testing.assert_allclose(numbers[2], numbers[0], atol=1e-5)


def _numbers(found) -> list[float]:
    if isinstance(found, dict):
        return [x for key in sorted(found) for x in _numbers(found[key])]
    if isinstance(found, list):
        return [x for part in found for x in _numbers(part)]
    return [found] if isinstance(found, float) else []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "colours has no zca.npz. Convert the photographs again"),
        (
            {"progressive_resizing": ((16, 0), (8, 2))},
            "is fitted to images of 8 pixels, and 16 are",
        ),
    ],
)
def test_what_does_not_fit_is_told(given, said, data, colours, tmp_path):
    folder = str(data / "data" if given else colours)
    given = SMALLEST | given | {"dataset_dir": folder, "train_dir": str(tmp_path / "run")}
    chosen = TrainOptions.of(**given, normalization="zca", max_number_of_steps=4)
    with pytest.raises(InputError) as told:
        train.train(chosen, print)
    assert said.replace("colours", str(colours)) in str(told.value)


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / "zca.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match="zca.npz is missing or damaged"):
        zca.Whitening(str(tmp_path / "zca.npz"))
