import os

import pytest
from PIL import Image

from datasets.findings import Effect, Finding
from datasets.options import DestinationOptions, PhotographsOptions
from datasets.schema import FRACTIONS, Box, LabeledImage
from datasets.sources import yolo
from datasets.sources.image_folder import ImageFolder
from foundation.errors import InputError
from runs.convert import convert
from runs.options import ConvertOptions


def _draw(folder, files):
    """Writes photographs and texts by their path."""
    for i, (path, content) in enumerate(files.items()):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            Image.new("RGB", (100, 80), (i, 9, 9)).save(folder / path)
        else:
            (folder / path).write_text(content)


def _read(top, images=None, labels=None, rule="largest", **given):
    folder = ImageFolder(str(images or top))
    return list(yolo.read(str(labels or top), folder, rule, **given))


_DATA = "names: [cat, dog]\n"
_CAT, _DOG = "0 0.5 0.5 0.2 0.4\n", "1 0.25 0.5 0.5 1\n"


@pytest.mark.parametrize(
    "places",
    [
        ("images/{}.jpg", "labels/{}.txt", "data.yaml"),
        ("images/train/{}.jpg", "labels/train/{}.txt", "data.yaml"),
        ("train/images/{}.jpg", "train/labels/{}.txt", "data.yaml"),
        ("obj_train_data/{}.jpg", "obj_train_data/{}.txt", "obj.names"),
        ("{}.jpg", "{}.txt", "classes.txt"),
        ("images/{}.jpg", "labels/{}.txt", "labels/classes.txt"),
    ],
)
def test_layouts(tmp_path, places):
    photograph, label, names = places
    _draw(
        tmp_path,
        {
            photograph.format("a"): None,
            photograph.format("b"): None,
            label.format("a"): _CAT,
            label.format("b"): _DOG,
            names: _DATA if names.endswith("yaml") else "cat\ndog\n",
            "README.dataset.txt": "Made of photographs.\n",
        },
    )
    split = "train" if "train/" in photograph and "obj_" not in photograph else ""
    assert yolo.are_in(str(tmp_path))
    assert _read(tmp_path) == [
        LabeledImage(photograph.format(name), label, (box,), split, FRACTIONS)
        for name, label, box in (
            ("a", "cat", Box(0.3, 0.4, 0.7, 0.6)),
            ("b", "dog", Box(0, 0, 1, 0.5)),
        )
    ]


def test_several_objects_polygons_and_a_detectors_confidence(tmp_path):
    lines = f"{_CAT}1 0.1 0.1 0.9 0.1 0.5 0.8\n0 0.5 0.5 0.1 0.1 0.97\n"
    _draw(tmp_path, {"images/a.jpg": None, "labels/a.txt": lines, "data.yaml": _DATA})
    (largest,) = _read(tmp_path)
    assert (largest.label, largest.boxes) == ("dog", (Box(0.1, 0.1, 0.8, 0.9),))
    assert [i.label for i in _read(tmp_path, rule="each")] == ["cat", "dog", "cat"]


@pytest.mark.parametrize(
    ("line", "reason", "effect"),
    [
        ("2 0.5 0.5 0.2 0.2", "no label: class 2, and /", Effect.REFUSED),
        ("cat 0.5 0.5 0.2 0.2", "malformed line: 'cat 0.5 0.5 0.2 0.2' (line 2)", Effect.REFUSED),
        ("1 0.5 0.5", "malformed line", Effect.REFUSED),
        ("9" * 400 + " 0.5 0.5 0.2 0.2", "malformed line", Effect.REFUSED),
        ("1 0.5 0.5 0.2 0", "box: ymin 0.5 is not less than ymax 0.5", Effect.CORRECTED),
        ("1 40 30 20 20", "box: 40 30 20 20 are no fractions", Effect.CORRECTED),
        ("1 0.5 0.5 0.2 1e", "box: could not convert", Effect.CORRECTED),
    ],
)
def test_a_bad_line_is_named_and_the_others_stay(tmp_path, line, reason, effect):
    _draw(tmp_path, {"a.jpg": None, "a.txt": f"{_CAT}{line}\n", "data.yaml": _DATA})
    finding, image = _read(tmp_path)
    assert (finding.file, finding.effect, image.label) == ("a.txt", effect, "cat")
    assert finding.reason.startswith(reason) and "(line 2)" in finding.reason


def test_labels_without_photograph_and_photographs_without_object(tmp_path):
    _draw(tmp_path, {"a.jpg": None, "a.txt": "", "gone.txt": _CAT, "data.yaml": _DATA})
    assert _read(tmp_path) == [
        Finding("a.txt", "no object in the annotation", Effect.LEFT_OUT),
        Finding("gone.txt", "missing photograph: gone"),
    ]


@pytest.mark.parametrize(
    ("data", "splits"),
    [
        ("train: ../one/images\nval: two/images # or so\n", ["train", "validation"]),
        ("path: x\ntrain: ['one/images']\ntest: list.txt\n", ["train", "test"]),
    ],
)
def test_splits_as_the_data_file_says(tmp_path, data, splits):
    files = {"one/images/a.jpg": None, "two/images/b.jpg": None, "list.txt": "./two/images/b.jpg\n"}
    files |= {"one/labels/a.txt": _CAT, "two/labels/b.txt": _DOG, "data.yaml": data + _DATA}
    _draw(tmp_path, files)
    assert [image.split for image in _read(tmp_path)] == splits


def test_splits_as_darknets_data_file_says(tmp_path):
    files = {"data/obj/a.jpg": None, "data/obj/a.txt": _CAT, "data/obj/b.jpg": None}
    files |= {"data/obj/b.txt": _DOG, "data/obj.names": "cat\ndog\n"}
    files |= {"data/obj.data": "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\n"}
    files |= {"data/train.txt": "data/obj/a.jpg\n", "data/valid.txt": "data/obj/b.jpg\n"}
    _draw(tmp_path, files)
    found = _read(tmp_path / "data" / "obj")
    assert [image.split for image in found] == ["train", "validation"]


def test_what_is_no_text_file_is_not_opened(tmp_path):
    _draw(tmp_path, {"a.jpg": None, "b.jpg": None, "b.txt": _DOG, "data.yaml": _DATA})
    os.mkfifo(tmp_path / "a.txt")  # opening it would wait for ever
    empty, image = _read(tmp_path)
    assert empty == Finding("a.txt", "no object in the annotation", Effect.LEFT_OUT)
    assert image.path == "b.jpg"


def test_names_of_another_dataset_two_folders_above_do_not_count(tmp_path):
    _draw(tmp_path, {"a/b/c.jpg": None, "a/b/c.txt": _DOG, "other.yaml": "names: [x, y]\n"})
    assert _read(tmp_path / "a" / "b")[0].label == "y"
    _draw(tmp_path, {"a/data.yaml": _DATA})
    assert _read(tmp_path / "a" / "b")[0].label == "dog"


def test_the_meaning_of_the_numbers_must_be_known(tmp_path):
    _draw(tmp_path, {"images/a.jpg": None, "labels/a.txt": _DOG})
    with pytest.raises(InputError, match="no data.yaml, classes.txt or obj.names .* by --classes"):
        _read(tmp_path)
    assert _read(tmp_path, classes=("cow", "hen"))[0].label == "hen"
    _draw(tmp_path, {"data.yaml": "names: [cat, cat]\n"})
    with pytest.raises(InputError, match=f"^{tmp_path}/data.yaml: a name is missing or there twi"):
        _read(tmp_path)
    _draw(tmp_path, {"data.yaml": "names: [cat, dog\n"})
    with pytest.raises(InputError, match=f"^{tmp_path}/data.yaml: its names are neither a list"):
        _read(tmp_path)
    (tmp_path / "data.yaml").unlink()
    _draw(tmp_path, {"classes.txt": "cat\ndog\n", "labels/classes.txt": "dog\ncat\n"})
    with pytest.raises(InputError, match="name YOLO's classes differently"):
        _read(tmp_path)


@pytest.mark.parametrize("given", [{}, {"annotations_dir": "labels"}])
def test_a_conversion_takes_yolos_layout(tmp_path, given):
    files = {"data.yaml": _DATA}
    for i in range(8):
        files |= {f"set/images/{i}.png": None, f"set/labels/{i}.txt": (_CAT, _DOG)[i % 2]}
    _draw(tmp_path, files)
    given = {name: str(tmp_path / "set" / value) for name, value in given.items()}
    said = []
    options = ConvertOptions(
        photographs=PhotographsOptions(image_dir=str(tmp_path / "set"), **given),
        destination=DestinationOptions(output_dir=str(tmp_path / "out"), validation_fraction=0.0),
    )
    made = convert(options, said.append)
    assert made.counts == {"train": {"cat": 4, "dog": 4}} and len(made.findings) == 0
    assert f"class names come from {tmp_path}/data.yaml: cat, dog (2)." in "\n".join(said)
