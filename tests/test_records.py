import io
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets import schema
from datasets.conversion import image_bytes
from datasets.conversion.depth import Depth
from datasets.conversion.records import RecordMaker
from datasets.options import ConversionOptions
from datasets.schema import Box, LabeledImage
from datasets.sources.image_folder import ImageFolder

_UNDO = {5: 5, 6: 8, 7: 7, 8: 6}  # the orientation that turns back


@pytest.fixture
def folder(tmp_path):
    """p.png, 40 x 20, black with a red rectangle in columns 10 to 19 and rows 5 to 9."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[5:10, 10:20, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "p.png")
    return ImageFolder(str(tmp_path))


_RED = Box(5, 10, 10, 20)


def _make(folder, boxes, size=None, path="p.png", **options):
    image = LabeledImage(path, "red", boxes, size=size)
    options = ConversionOptions(**options)
    depth = Depth("auto", lambda: [12])
    record = RecordMaker(folder, {"blue": 0, "red": 1}, options, depth).make(image)
    example = schema.parse_example(tf.constant(record.framed[12:-4]))
    pixels = tf.io.decode_image(example["encoded"], channels=3).numpy()
    return record, example, pixels


def test_a_record_holds_the_photograph_and_its_label(folder):
    record, example, _ = _make(folder, (_RED,))
    assert example["encoded"].numpy() == folder.read("p.png")
    assert example["label"].numpy() == 1
    assert example["text"].numpy() == b"red"
    assert example["filename"].numpy() == b"p.png"
    np.testing.assert_allclose(example["boxes"], [[0.25, 0.25, 0.5, 0.5]])
    assert (record.width, record.height, record.change, record.remarks) == (40, 20, "", ())


def test_boxes_of_the_picture_in_another_size_are_scaled(folder):
    large = Box(*(10 * side for side in _RED))
    _, example, _ = _make(folder, (large,), size=(400, 200))
    np.testing.assert_allclose(example["boxes"], [[0.25, 0.25, 0.5, 0.5]])


@pytest.mark.parametrize("size", [(20, 40), (1, 1), (400, 300), None])
def test_a_size_that_does_not_fit_is_not_believed(folder, size):
    _, example, _ = _make(folder, (_RED,), size=size)
    np.testing.assert_allclose(example["boxes"], [[0.25, 0.25, 0.5, 0.5]])


def test_a_box_is_clipped_to_the_image_and_that_is_told(folder):
    record, example, _ = _make(folder, (Box(-5, 10, 10, 60),))
    np.testing.assert_allclose(example["boxes"], [[0, 0.25, 0.5, 1]])
    assert record.remarks == ("box clipped: xmin 10, ymin -5, xmax 60, ymax 10 in 40 x 20",)


def test_a_pixel_over_the_edge_is_nothing_to_tell(folder):
    record, example, _ = _make(folder, (Box(1, 1, 21, 41),))
    np.testing.assert_allclose(example["boxes"], [[0.05, 0.025, 1, 1]])
    assert record.remarks == ()


@pytest.mark.parametrize("box", [Box(0, 40, 5, 50), Box(-9, 0, -1, 5), Box(20, 0, 30, 5)])
def test_a_box_outside_goes_and_the_label_stays(folder, box):
    record, example, _ = _make(folder, (box, _RED))
    (remark,) = record.remarks
    assert re.fullmatch(r"box outside the image: xmin .* in 40 x 20", remark)
    assert example["label"].numpy() == 1
    np.testing.assert_allclose(example["boxes"], [[0.25, 0.25, 0.5, 0.5]])
    message = r"^no box: nothing to crop to; box outside the image: xmin .* in 40 x 20$"
    with pytest.raises(ValueError, match=message):
        _make(folder, (box, _RED), crop_to_box=True)


@pytest.mark.parametrize("size", [None, (40, 20), (400, 200)])
def test_boxes_in_fractions_are_understood_and_said(folder, size):
    box = Box(0.25, 0.25, 0.5, 0.5)
    record, example, pixels = _make(folder, (box,), size, crop_to_box=True)
    assert pixels.shape == (5, 10, 3) and (pixels[..., 0] == 255).all()
    text = "xmin 0.25, ymin 0.25, xmax 0.5, ymax 0.5"
    assert record.remarks == (f"box in fractions: {text}, understood as such",)
    whole = Box(-0.001, 0, 1, 1.003)  # rounded
    record, example, pixels = _make(folder, (whole,), size, crop_to_box=True)
    assert pixels.shape == (20, 40, 3)
    np.testing.assert_allclose(example["boxes"], [[0, 0, 1, 1]])
    beyond = Box(0.1, -0.2, 0.5, 1.3)  # as a detector leaves it
    record, example, pixels = _make(folder, (beyond,), size, crop_to_box=True)
    assert pixels.shape == (8, 40, 3)
    assert record.remarks[0].startswith("box in fractions: ")
    assert record.remarks[1].startswith("box clipped: ")


def test_cropping_to_the_box(folder):
    record, example, pixels = _make(folder, (_RED,), crop_to_box=True)
    assert pixels.shape == (5, 10, 3) and (pixels[..., 0] == 255).all()
    assert (record.width, record.height, record.change) == (10, 5, "crop")
    np.testing.assert_allclose(example["boxes"], [[0, 0, 1, 1]])


def test_the_margin_is_a_fraction_of_the_box_and_ends_at_the_edge(folder):
    _, example, pixels = _make(folder, (_RED,), crop_to_box=True, box_margin=0.2)
    assert pixels.shape == (7, 14, 3)
    assert (pixels[1:6, 2:12, 0] == 255).all() and not pixels[0].any() and not pixels[:, 0].any()
    np.testing.assert_allclose(example["boxes"], [[1 / 7, 2 / 14, 6 / 7, 12 / 14]], rtol=1e-6)
    _, _, pixels = _make(folder, (_RED,), crop_to_box=True, box_margin=9.0)
    assert pixels.shape == (20, 40, 3)


def test_other_boxes_are_cut_to_the_crop_or_left_out(folder):
    boxes = (_RED, Box(5, 15, 10, 40), Box(0, 30, 5, 40))
    _, example, _ = _make(folder, boxes, crop_to_box=True)
    np.testing.assert_allclose(example["boxes"], [[0, 0, 1, 1], [0, 0.5, 1, 1]])


def test_a_crop_of_the_whole_image_keeps_the_bytes(folder):
    record, example, _ = _make(folder, (Box(0, 0, 20, 40),), crop_to_box=True)
    assert record.change == "" and example["encoded"].numpy() == folder.read("p.png")


@pytest.mark.parametrize("box", [Box(19.99, 39.99, 20, 40), Box(3.1, 3.1, 3.2, 3.2)])
def test_a_tiny_box_leaves_a_pixel(folder, box):
    _, _, pixels = _make(folder, (box,), crop_to_box=True)
    assert pixels.shape == (1, 1, 3)


def test_without_a_box_there_is_nothing_to_crop_to(folder):
    with pytest.raises(ValueError, match="^no box: nothing to crop to$"):
        _make(folder, (), crop_to_box=True)


@pytest.mark.parametrize("orientation", _UNDO)
def test_boxes_drawn_on_the_picture_as_stored_turn_with_it(folder, orientation):
    upright = Image.open(io.BytesIO(folder.read("p.png")))
    stored = upright.transpose(image_bytes._TURNS[_UNDO[orientation]])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(f"{folder.path}/turned.png", exif=exif)
    rows, columns = np.nonzero(np.asarray(stored)[..., 0])
    box = Box(rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
    for boxes, size in (((box,), stored.size), ((_RED,), upright.size), ((_RED,), None)):
        _, _, pixels = _make(folder, boxes, size, "turned.png", crop_to_box=True)
        assert pixels.shape == (5, 10, 3) and (pixels[..., 0] == 255).all()


def test_a_label_outside_the_classes_is_refused(folder):
    with pytest.raises(ValueError, match="^label not in --classes: green$"):
        maker = RecordMaker(folder, {"red": 0}, ConversionOptions(), Depth("full", list))
        maker.make(LabeledImage("p.png", "green"))
