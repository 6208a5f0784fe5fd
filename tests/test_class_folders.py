import unicodedata

import pytest

from datasets.findings import Effect, Finding
from datasets.schema import Box, LabeledImage
from datasets.sources import class_folders
from datasets.sources.image_folder import ImageFolder
from foundation.errors import InputError


def _read(tmp_path, *paths):
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    return [(i.path, i.label, i.split) for i in class_folders.read(ImageFolder(str(tmp_path)))]


def test_a_folder_is_a_class_at_any_depth_below(tmp_path):
    assert _read(tmp_path, "dog/b.jpg", "dog/a.png", "cat/2019/x", "LICENSE.txt") == [
        ("cat/2019/x", "cat", ""),
        ("dog/a.png", "dog", ""),
        ("dog/b.jpg", "dog", ""),
    ]


@pytest.mark.parametrize("validation", ["valid", "validation", "val", "Val"])
def test_split_folders_above_the_classes_are_the_splits(tmp_path, validation):
    found = _read(tmp_path, "train/cat/1.jpg", f"{validation}/cat/2.jpg", "test/dog/3.jpg")
    assert sorted(found) == sorted(
        [
            ("train/cat/1.jpg", "cat", "train"),
            (f"{validation}/cat/2.jpg", "cat", "validation"),
            ("test/dog/3.jpg", "dog", "test"),
        ]
    )


def test_train_may_be_a_class(tmp_path):
    found = _read(tmp_path, "aeroplane/1.jpg", "train/2.jpg")
    assert found == [("aeroplane/1.jpg", "aeroplane", ""), ("train/2.jpg", "train", "")]


def test_an_empty_class_folder_is_an_error_where_it_is_for_training(tmp_path):
    (tmp_path / "val" / "cow").mkdir(parents=True)
    found = _read(tmp_path, "train/cow/1.jpg", "train/ant/2.jpg")
    assert [path for path, *_ in found] == ["train/ant/2.jpg", "train/cow/1.jpg"]
    (tmp_path / "train" / "dog").mkdir()
    with pytest.raises(ValueError, match="class folder .*train/dog holds no photograph"):
        _read(tmp_path, "train/dog/notes.txt")


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    found = _read(tmp_path, "cat/1.jpg", "cat/._1.jpg", ".git/x", "__MACOSX/cat/1.jpg", "dog/2.jpg")
    assert found == [("cat/1.jpg", "cat", ""), ("dog/2.jpg", "dog", "")]


def test_hidden_folders_of_photographs_are_told_but_for_those_of_tools(tmp_path):
    for path in ("cat/1.jpg", "dog/2.jpg", ".wolf/3.jpg", ".thumbnails/1.jpg", ".notes/a.txt"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_bytes(b"")
    said = []
    assert len(list(class_folders.read(ImageFolder(str(tmp_path)), said.append))) == 2
    assert said == [
        "Warning: hidden folders are passed over, with their photographs: .wolf (1). "
        "Rename those that are classes."
    ]


def test_a_class_must_have_a_name_in_utf8(tmp_path):
    with pytest.raises(ValueError, match="The name of the class folder .* is not in UTF-8"):
        _read(tmp_path, "caf\udce9/1.jpg", "tea/1.jpg")


def test_splits_and_other_folders_side_by_side_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="the split 'train' and, next to it, the folder 'cow'"):
        _read(tmp_path, "train/cat/1.jpg", "cow/2.jpg")


def test_no_folders_are_an_error_that_names_the_other_ways(tmp_path):
    with pytest.raises(ValueError, match="no folder per class.*--annotations_dir or --csv_file"):
        _read(tmp_path, "1.jpg")


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["train/1.jpg", "valid/2.jpg", "test/3.jpg"], "splits that hold no folder per class"),
        (["train/images/1.jpg", "valid/images/2.jpg"], "its folders are no classes: images"),
        (["train/images/1.jpg", "train/labels/1.txt"], "are no classes: images, labels"),
        (["images/train/1.jpg", "labels/train/1.txt"], "are no classes: images, labels"),
        (["images/1.jpg", "labels/1.txt", "plots/1.jpg"], "no classes: images, labels, plots"),
        (["training/1.jpg", "evaluation/2.jpg"], "are no classes: evaluation, training"),
        (["Photos/1.jpg"], "its folders are no classes: Photos"),
        (["cat/1.jpg"], "it has a folder for one class only: cat"),
        (["train/cat/1.jpg", "test/cat/2.jpg"], "it has a folder for one class only: cat"),
    ],
)
def test_folders_that_are_no_classes_name_the_other_ways(tmp_path, paths, message):
    with pytest.raises(InputError, match=f"{message}.*--annotations_dir or --csv_file"):
        _read(tmp_path, *paths)


def test_accents_in_either_form_are_one_class(tmp_path):
    forms = [unicodedata.normalize(form, "épagneul") for form in ("NFC", "NFD")]
    found = _read(tmp_path, *(f"{form}/{i}.jpg" for i, form in enumerate(forms)), "dog/3.jpg")
    assert [label for _, label, _ in found] == ["dog", forms[0], forms[0]]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("cat/1.jpg", ("cat", "")),
        ("train/cat/deep/1.jpg", ("cat", "train")),
        ("1.jpg", ("", "")),
        ("train/1.jpg", ("", "")),
        ("images/1.jpg", ("", "")),
        ("val/images/1.jpg", ("", "validation")),
    ],
)
def test_the_label_of_a_photograph_by_its_folders(path, expected):
    assert class_folders.label_of(path) == expected


def test_annotations_beside_the_photographs_give_boxes(tmp_path):
    xml = (
        "<annotation><filename>%s</filename><object><name>%s</name><bndbox><xmin>1</xmin>"
        "<ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"
    )
    for path in ("cat/1.jpg", "cat/2.jpg", "dog/3.jpg"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    (tmp_path / "cat/1.xml").write_text(xml % ("1.jpg", "cat"))
    (tmp_path / "dog/3.xml").write_text(xml % ("/far/3.jpg", "puppy"))
    said = []
    items = list(class_folders.read(ImageFolder(str(tmp_path)), said.append))
    assert said == ["Boxes come from the .xml files next to the photographs."]
    findings = [item for item in items if isinstance(item, Finding)]
    assert [item.kind for item in findings] == ["foreign path", "label by the folder"]
    assert findings[1].reason == "label by the folder: dog, not puppy"
    images = {item.path: item for item in items if isinstance(item, LabeledImage)}
    assert {path: image.label for path, image in images.items()} == {
        "cat/1.jpg": "cat",
        "cat/2.jpg": "cat",
        "dog/3.jpg": "dog",
    }
    assert images["cat/1.jpg"].boxes == images["dog/3.jpg"].boxes == (Box(2, 1, 4, 3),)
    assert images["cat/2.jpg"].boxes == ()


def test_photographs_in_no_class_folder_are_listed(tmp_path):
    for path in ("stray.JPG", "train/cat/1.jpg", "train/dog/2.jpg", "train/s.png", "train/notes"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    items = list(class_folders.read(ImageFolder(str(tmp_path))))
    reason = "in no class folder"
    assert items[:2] == [
        Finding("stray.JPG", reason, Effect.LEFT_OUT),
        Finding("train/s.png", reason, Effect.LEFT_OUT),
    ]
    assert [item.path for item in items[2:]] == ["train/cat/1.jpg", "train/dog/2.jpg"]


def test_folders_that_are_one_class_are_said(tmp_path):
    for name in ("healthy", "healthy ", "sick"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(b"")
    said = []
    found = list(class_folders.read(ImageFolder(str(tmp_path)), said.append))
    assert [image.label for image in found] == ["healthy", "healthy", "sick"]
    assert said == ["The folders 'healthy' and 'healthy ' are one class, healthy."]


@pytest.mark.parametrize(
    ("path", "is_deeper"),
    [("set/{}/1.jpg", True), ("images/{}/1.jpg", True), ("set/train/{}/1.jpg", True)]
    + [("dogs/1{}.jpg", False)],
)
def test_a_folder_around_all_classes_is_named(tmp_path, path, is_deeper):
    with pytest.raises(InputError) as error:
        _read(tmp_path, path.format("cat"), path.format("dog"))
    inner = f"--image_dir={tmp_path / path.split('/')[0]}. Else give the labels"
    assert (inner in str(error.value)) is is_deeper
