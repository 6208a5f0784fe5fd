import csv
import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets.conversion import depth
from datasets.conversion.depth import Depth
from datasets.conversion.image_bytes import Changes, Photograph
from foundation.options import changed
from runs.convert import convert
from runs.options import ConvertOptions
from tests.conftest import run_script


def _png(values):
    """A 16-bit PNG, gray [H, W] or colour [H, W, 3 or 4]; Pillow saves no colour."""
    kind = {2: 0, 3: 2}.get(values.ndim) if values.shape[-1] != 4 else 6
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name, content):
        crc = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def _tiff(values):
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF")
    return file.getvalue()


_RAMP = (np.arange(64 * 48).reshape(48, 64) % 2600 + 300).astype(np.uint16)  # 12 bits


def _decoded(encoded):
    return np.asarray(Image.open(io.BytesIO(encoded.data)))


@pytest.mark.parametrize("save", [_png, _tiff])
def test_values_are_scaled_by_the_bits_in_use(save):
    photograph = Photograph(save(_RAMP))
    assert photograph.is_deep and photograph.bits_used() == 12
    np.testing.assert_array_equal(_decoded(photograph.encode(Changes(bits=12))), _RAMP >> 4)
    np.testing.assert_array_equal(_decoded(Photograph(save(_RAMP)).encode()), _RAMP >> 4)
    full = Photograph(save(_RAMP)).encode(Changes(bits=16))
    np.testing.assert_array_equal(_decoded(full), _RAMP >> 8)
    stretched = _decoded(Photograph(save(_RAMP)).encode(Changes(bits=depth.STRETCHED)))
    assert stretched.min() == 0 and stretched.max() == 255
    low, high = np.percentile(_RAMP, (0.5, 99.5))
    assert stretched[24, 0] == int((_RAMP[24, 0] - low) * 256 / (high - low)) > 130


@pytest.mark.parametrize(
    ("largest", "bits"), [(255, 8), (256, 10), (1023, 10), (1024, 12), (9999, 14)]
)
def test_the_bits_in_use(largest, bits):
    values = np.array([[0, largest]], np.uint16)
    assert Photograph(_png(values)).bits_used() == bits


def test_equalizing_comes_before_eight_bits():
    deep = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) // 8 + 100  # 384 even levels
    equalized = _decoded(Photograph(_png(deep)).encode(Changes(filters=("equalize",), bits=16)))
    assert len(np.unique(equalized)) > 250 and equalized.min() == 0 and equalized.max() == 255
    assert (np.diff(equalized.ravel().astype(int)) >= 0).all() and 127 < equalized.mean() < 128
    shrunk = _decoded(Photograph(_png(deep)).encode(Changes(None, 32, ("equalize",), bits=16)))
    assert shrunk.shape == (24, 32) and shrunk.min() == 0 and shrunk.max() == 255


def test_colour_and_transparency():
    pytest.importorskip("cv2")
    colour = np.stack([_RAMP, _RAMP // 2, _RAMP[::-1]], axis=-1)
    photograph = Photograph(_png(colour))
    assert photograph.is_deep and photograph.bits_used() == 12
    np.testing.assert_array_equal(_decoded(photograph.encode(Changes(bits=12))), colour >> 4)
    opacity = np.full((48, 64, 1), 65535, np.uint16)
    opacity[:24] = 0
    found = _decoded(
        Photograph(_png(np.concatenate([colour, opacity], -1))).encode(Changes(bits=12))
    )
    assert (found[:24] == 255).all()
    np.testing.assert_array_equal(found[24:], colour[24:] >> 4)


def test_colour_of_few_bits_without_opencv_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    colour = np.stack([_RAMP] * 3, axis=-1)
    with pytest.raises(ValueError, match="16-bit colour: 12 bits in use needs the extra opencv"):
        Photograph(_png(colour)).encode(Changes(bits=12))
    full = np.asarray(
        Image.open(io.BytesIO(Photograph(_png(colour)).encode(Changes(bits=16)).data))
    )
    np.testing.assert_array_equal(full, colour >> 8)


def test_a_set_is_searched_once_and_only_where_it_must_be():
    searches = []

    def search():
        searches.append(1)
        yield from (10, 14, 12)

    auto = Depth("auto", search)
    assert searches == [] and auto.bits() == auto.bits() == 14 and searches == [1]
    found = [Depth(setting, search).bits() for setting in ("full", "12", "percentile")]
    assert found == [16, 12, depth.STRETCHED] and searches == [1]


def test_a_file_that_says_how_many_bits_it_has_is_scaled_by_these():
    rows = bytes.fromhex("000fff800010")  # 0, 4095, 2048, 16: two values in three bytes
    tags = {256: 4, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(rows)}
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<L", 14) + rows + struct.pack("<H", len(tags)) + entries
    photograph = Photograph(data + bytes(4))
    assert photograph.is_deep and photograph.stated_bits == 12
    np.testing.assert_array_equal(_decoded(photograph.encode()), [[0, 255, 128, 1]])
    assert Photograph(_tiff(_RAMP)).stated_bits is Photograph(_png(_RAMP)).stated_bits is None


def test_a_mixture_of_depths_is_said_and_values_that_are_cut_off_are_listed(tmp_path):
    for i, values in enumerate((_RAMP, _RAMP * 20, _RAMP + 1)):
        for name in "ab":
            (tmp_path / "images" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "images" / name / f"{i}.png").write_bytes(_png(values))
    images, place = f"{tmp_path}/images", f"{tmp_path}/o.tfrecord"
    options, lines = ConvertOptions.of(image_dir=images, output_file=place), []
    assert len(convert(options, lines.append).findings) == 0
    (line,) = [line for line in lines if "different numbers of bits" in line]
    assert "4 use 12 (a/0.png, …), 2 use 16 (a/1.png, …). All are scaled by 16" in line
    made = convert(changed(options, {"sixteen_bit": "12", "overwrite": True}), lines.append)
    reasons = {item.file: item.reason for item in made.findings}
    assert reasons["a/0.png"] == "16-bit pixels: scaled by the 12 bits in use"
    assert reasons["a/1.png"] == "16-bit pixels: scaled by 12 bits and cut off, since it uses 16"


def test_all_photographs_of_a_set_are_scaled_alike(tmp_path):
    for name in "ab":
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(2):
            values = _RAMP if name == "a" else _RAMP // 8  # which alone would use 10 bits
            (tmp_path / "images" / name / f"{i}.png").write_bytes(_png(values + i))
    words = [f"--image_dir={tmp_path}/images", f"--output_file={tmp_path}/o.tfrecord"]
    result = run_script("convert_data.py", *words, "--num_workers=2")
    assert result.returncode == 0, result.stderr
    assert "16-bit pixels (4)" in result.stdout
    with open(tmp_path / "o.tfrecord.rejected.csv", newline="") as file:
        reasons = {row["reason"] for row in csv.DictReader(file)}
    assert reasons == {"16-bit pixels: scaled by the 12 bits in use"}
    records = tf.data.TFRecordDataset(str(tmp_path / "o.tfrecord"))
    for record in records.as_numpy_iterator():
        example = tf.train.Example.FromString(record).features.feature
        name = example["image/filename"].bytes_list.value[0].decode()
        pixels = tf.io.decode_png(example["image/encoded"].bytes_list.value[0])[..., 0].numpy()
        values = (_RAMP if name[0] == "a" else _RAMP // 8) + int(name[2])
        np.testing.assert_array_equal(pixels, values >> 4)
