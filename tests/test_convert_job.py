"""The conversion as a function: what a notebook does."""

import pytest
from PIL import Image

from datasets import schema
from datasets.options import ConversionOptions, DestinationOptions, PhotographsOptions
from foundation.errors import InputError, UsageError
from foundation.options import changed
from runs.convert import convert
from runs.options import ConvertOptions


@pytest.fixture
def images(tmp_path):
    for i in range(8):
        path = tmp_path / "images" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (i, 0, 0)).save(path)
    return tmp_path / "images"


def _options(images, output, **conversion):
    return ConvertOptions(
        photographs=PhotographsOptions(image_dir=str(images)),
        destination=DestinationOptions(output_dir=str(output), validation_fraction=0.0),
        conversion=ConversionOptions(**conversion),
    )


def test_a_conversion_is_an_object_and_prints_only_through_what_it_is_given(
    images, tmp_path, capfd
):
    said, shown = [], []

    def progress(items, text, total):
        shown.append((text, total))
        yield from items

    (images / "a" / "broken.png").write_bytes(b"")
    made = convert(_options(images, tmp_path / "out"), said.append, progress)
    assert (made.num_examples, made.classes) == (8, ("a", "b"))
    assert made.counts == {"train": {"a": 4, "b": 4}}
    assert [str(item) for item in made.findings] == ["a/broken.png: empty file"]
    assert "\nout: 8 examples of 2 classes" in said
    assert shown == [("reading labels", None), ("converting", 9)]
    again = convert(_options(images, tmp_path / "out"), said.append)
    assert again.already_done and again.files == made.files
    assert capfd.readouterr() == ("", "")


def test_a_class_that_is_misspelt_shows_the_nearest_label(images, tmp_path):
    for old, new in (("a", "husky"), ("b", "beagle")):
        (images / old).rename(images / new)
    Image.new("RGB", (9, 9)).save(images / "beagle" / "more.png")
    options = _options(images, tmp_path / "out")
    with pytest.raises(InputError, match="class 'huskey' is left .*not in --classes is 'husky'"):
        convert(changed(options, {"classes": "beagle,huskey"}), lambda line: None)


def test_a_folder_of_tfrecords_is_told_for_what_it_is(tmp_path):
    path = tmp_path / "flowers_train-00000-of-00001.tfrecord"
    path.write_bytes(schema.frame(b"record"))
    (tmp_path / "other_train.tfrecord").write_bytes(b"no frame at all")
    problem = r"holds TFRecord files \(flowers_train-00000-of-00001.tfrecord\), and no photographs"
    with pytest.raises(InputError, match=f"{problem}.*--dataset_dir, or files by --tfrecord_file"):
        convert(_options(tmp_path, tmp_path.parent / "out"), lambda line: None)


def test_cocos_layout_is_told_for_what_it_may_be(tmp_path):
    for split in ("train", "valid"):
        (tmp_path / split).mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / split / "1.png")
    (tmp_path / "train" / "_annotations.coco.json").write_text("{}")
    with pytest.raises(
        InputError, match="no folder per class.*train/_annotations.coco.json may be"
    ):
        convert(_options(tmp_path, tmp_path.parent / "out"), lambda line: None)


def test_options_are_checked_as_on_the_command_line(images, tmp_path):
    with pytest.raises(UsageError, match="--box_margin belongs to --crop_to_box"):
        convert(_options(images, tmp_path / "out", box_margin=0.1))
    (images / "a" / "broken.png").write_bytes(b"")
    with pytest.raises(InputError, match="a/broken.png: empty file. Stopped by --on_error=fail"):
        convert(_options(images, tmp_path / "out", on_error="fail"), lambda line: None)
