"""What many tests share: a small dataset on disk, its events, and scripts run as users run them."""

import gc
import io
import os
import pathlib
import signal
import socket

# Before anything imports TensorFlow: its start-up notices would fill the report.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The suite's processes fill the processors: threads within an operation would wait for each other.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import numpy as np
import pytest
from PIL import Image

from datasets import schema
from tests.forked import OURS
from tests.forked import ROOT as ROOT
from tests.forked import run_script as run_script

# Tests in several processes: those ignore Ctrl-C, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

COLOURS = {"blue": (40, 60, 200), "green": (50, 180, 60), "red": (210, 50, 40)}

LONGEST = {
    "test_end_to_end.py",
    "test_feature_cache.py",
    "test_guides.py",
    "test_nets_parity.py",
    "test_nets_training.py",
    "test_preview.py",
    "test_recomputed.py",
    "test_run.py",
    "test_saved_model.py",
    "test_serving_page.py",
    "test_temperature.py",
    "test_train_image_classifier.py",
    "test_tune.py",
    "test_workers.py",
    "test_zca.py",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz_inputs", type=int, default=100_000, help="Inputs of each fuzz test.")
    parser.addoption("--fuzz_seed", type=int, default=0, help="Another one gives other inputs.")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", f"error:::{OURS}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the files of the longest tests, which at the end would keep one worker alone."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    """Spares the garbage collector what modules imported, which stays, and has it come seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)  # objects; of 700 it visits TensorFlow's graphs again and again


def events(folder) -> dict[str, list]:
    """TensorBoard's events in a folder: tag → its (step, tensor proto) in order."""
    import tensorflow as tf

    found = {}
    for path in sorted(pathlib.Path(folder).glob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.tensor))
    return found


def write_colours(
    folder: pathlib.Path, per_class: int = 8, size: int = 40, first: int = 0
) -> pathlib.Path:
    """Shards of noisy pictures in three colours: NAME colours, splits train and validation.

    Classes are numbered from `first`; with 1, class 0 is the background.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for split in ("train", "validation"):
        path = folder / f"colours_{split}-00000-of-00001.tfrecord"
        with open(path, "wb") as file:
            for i in range(per_class * len(COLOURS)):
                number = i % len(COLOURS)
                name, colour = list(COLOURS.items())[number]
                noise = rng.integers(-40, 40, (size, size, 3))
                pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                encoded = io.BytesIO()
                Image.fromarray(pixels).save(encoded, "JPEG")
                file_name = f"{name}_{i}.jpg"
                record = schema.Example(
                    encoded.getvalue(), "jpeg", size, size, number + first, name, file_name, (), ""
                ).serialize()
                file.write(schema.frame(record))
    names = [*["background"] * first, *COLOURS]
    lines = (f"{i}:{name}\n" for i, name in enumerate(names))
    (folder / "labels.txt").write_text("".join(lines))
    return folder


@pytest.fixture(scope="session")
def colours(tmp_path_factory) -> pathlib.Path:
    """The folder of a dataset with 24 pictures a split in three classes."""
    return write_colours(tmp_path_factory.mktemp("colours"))


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody has yet."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def shorten_mobilenet() -> None:
    """Leaves MobileNet v1 one of its thirteen pairs: a net with batch norm, soon compiled.

    For scripts in processes of their own, as `first` of `run_script`; else `short_mobilenet`.
    """
    from nets import mobilenet_v1

    mobilenet_v1.PAIRS = mobilenet_v1.PAIRS[:1]


@pytest.fixture
def short_mobilenet(monkeypatch) -> None:
    """`shorten_mobilenet` for one test; the last convolution is Conv2d_1_pointwise."""
    from nets import mobilenet_v1

    monkeypatch.setattr(mobilenet_v1, "PAIRS", mobilenet_v1.PAIRS[:1])


def blank_figures() -> None:
    """Spares evaluations what takes them longest where tests ask for other things: two figures.

    For scripts, as `first` of `run_script`; else `no_figures`. test_report.py draws them all.
    """
    from evaluation import calibration
    from evaluation.report import pictures

    pictures.confusion_matrix = calibration.diagram = _blank


def _blank(*_) -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (8, 8)).save(encoded, "PNG")
    return encoded.getvalue()


@pytest.fixture
def quick_exports(monkeypatch) -> None:
    """`tests.exports.tiny.export_quickly` for one test."""
    from tests.exports.tiny import read_plainly, usual_pictures

    monkeypatch.setattr("serving.latency._SECONDS", 0.0)
    monkeypatch.setattr("serving.pictures.reading.read", read_plainly)
    monkeypatch.setattr("runs.unusual_pictures.drawn", usual_pictures)


@pytest.fixture
def no_figures(monkeypatch) -> None:
    """`blank_figures` for one test."""
    patch_figures(monkeypatch)


def patch_figures(patch: pytest.MonkeyPatch) -> None:
    """`blank_figures` until the patch is undone."""
    patch.setattr("evaluation.report.pictures.confusion_matrix", _blank)
    patch.setattr("evaluation.calibration.diagram", _blank)
