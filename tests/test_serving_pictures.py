"""The pixels a SavedModel's graph sees, beside those that conversion puts into a record."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps, PngImagePlugin

from datasets.conversion.image_bytes import Photograph
from serving.pictures import reading

SIDE = 48


def visible(data):
    """The pixels that conversion, record and decoding for evaluation give."""
    record = Photograph(data).encode().data
    return tf.io.decode_image(record, 3, expand_animations=False).numpy()


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
def read(encoded):
    def prepare(image):
        return tf.cast(tf.image.pad_to_bounding_box(image, 0, 0, SIDE, SIDE), tf.float32)

    return reading.read(encoded, prepare, tf.TensorSpec([SIDE, SIDE, 3], tf.float32))


def served(data):
    found = read([data])
    assert found.status.numpy().tolist() == [b""]
    return found.pixels.numpy()[0]


def check(data, tolerance=5):
    """Compares one picture's pixels with those of training.

    Conversion writes turned JPEG anew, which costs a little: so they are also compared with what
    Pillow shows of the original, whose decoder rounds more finely than TensorFlow's.
    """
    wanted = visible(data).astype(np.float32)
    height, width, _ = wanted.shape
    found = served(data)
    assert not found[height:].any() and not found[:, width:].any()
    difference = np.abs(found[:height, :width] - wanted)
    if data[:2] != b"\xff\xd8" or Photograph(data).encode().change == "":
        assert difference.max() == 0
        return
    assert difference.mean() < 4
    original = Image.open(io.BytesIO(data))
    original.getexif()[0x0112] = Photograph(data).orientation
    shown = np.asarray(ImageOps.exif_transpose(original).convert("RGB"), np.float32)
    difference = np.abs(found[:height, :width] - shown)
    assert difference.max() <= tolerance and difference.mean() < 1.5


def scene(mode="RGB", width=40, height=28):
    """Smooth, and different in each corner."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    planes = [255 * x, 255 * y, 127 * (1 - x) + 90 * y, 255 * np.clip(1.5 * x - 0.2, 0, 1)]
    image = Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8), "RGBA")
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation, order="<", kind="H", more=(), offset=8):
    """EXIF's TIFF structure; `more` entries stand before the orientation."""
    entries = [*more, struct.pack(f"{order}HHL", 0x0112, {"H": 3, "L": 4, "B": 1}[kind], 1)]
    entries[-1] += struct.pack(f"{order}{kind}", orientation).ljust(4, b"\0")
    head = b"II*\0" if order == "<" else b"MM\0*"
    head += struct.pack(f"{order}L", offset).ljust(offset - 4, b"\0")
    return head + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)


def segment(marker, content):
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def with_segments(jpeg, *segments):
    """The JPEG with segments behind its first one."""
    end = 4 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:end] + b"".join(segments) + jpeg[end:]


def app1(orientation, **options):
    return segment(0xE1, b"Exif\0\0" + exif(orientation, **options))


def xmp(text):
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + text)


JPEG = encoded(scene(), quality=95, subsampling=0)
TURNED = encoded(scene(), quality=95, subsampling=0, exif=app1(6)[4:])


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_as_its_exif_says(orientation, order):
    data = with_segments(JPEG, app1(orientation, order=order))
    check(data)
    upright = read([JPEG]).pixels.numpy()[0][:28, :40]
    turned = Image.fromarray(upright.astype(np.uint8))
    if orientation > 1:
        turned.getexif()[0x0112] = orientation
        turned = ImageOps.exif_transpose(turned)
    found = served(data)[: turned.height, : turned.width]
    np.testing.assert_array_equal(found, np.asarray(turned))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_png_is_turned_as_its_chunk_says(orientation):
    check(encoded(scene(), "PNG", exif=exif(orientation)))


PADDING = struct.pack("<HHL", 0x010F, 2, 4) + b"abc\0"
CASES = {
    "app0_with_thumbnail": with_segments(
        JPEG, segment(0xE0, b"JFXX\0\x10" + encoded(scene(), exif=app1(8)[4:])), app1(6)
    ),
    "after_icc": with_segments(JPEG, segment(0xE2, b"ICC_PROFILE\0" + bytes(60_000)), app1(3)),
    "before_app0": JPEG[:2] + app1(5) + JPEG[2:],
    "two_exif": with_segments(JPEG, app1(6), app1(3)),
    "exif_then_xmp": with_segments(JPEG, app1(6), xmp(b'<a tiff:Orientation="3"/>')),
    "xmp_then_exif": with_segments(JPEG, xmp(b'<a tiff:Orientation="3"/>'), app1(6)),
    "xmp_alone": with_segments(JPEG, xmp(b'<a tiff:Orientation="3"/>')),
    "xmp_element": with_segments(JPEG, xmp(b"<tiff:Orientation>8</tiff:Orientation>")),
    "two_xmp": with_segments(
        JPEG, xmp(b'<a tiff:Orientation="3"/>'), xmp(b'<a tiff:Orientation="6"/>')
    ),
    "xmp_without": with_segments(JPEG, xmp(b"<a/>")),
    "extended_xmp": with_segments(
        JPEG, segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0tiff:Orientation>8")
    ),
    "orientation_0": with_segments(JPEG, app1(0)),
    "orientation_9": with_segments(JPEG, app1(9)),
    "orientation_65535": with_segments(JPEG, app1(65535, order=">")),
    "long": with_segments(JPEG, app1(6, kind="L")),
    "long_big_endian": with_segments(JPEG, app1(6, kind="L", order=">")),
    "byte": with_segments(JPEG, app1(6, kind="B")),
    "other_entries": with_segments(JPEG, app1(6, more=[PADDING] * 20)),
    "directory_far_off": with_segments(JPEG, app1(6, offset=500)),
    "doubled_name": with_segments(JPEG, segment(0xE1, b"Exif\0\0Exif\0\0" + exif(6))),
    "empty_exif": with_segments(JPEG, segment(0xE1, b"Exif\0\0")),
    "rubbish_exif": with_segments(JPEG, segment(0xE1, b"Exif\0\0" + b"\x07" * 50)),
    "rubbish_exif_and_xmp": with_segments(
        JPEG, segment(0xE1, b"Exif\0\0" + b"\x07" * 50), xmp(b'<a tiff:Orientation="3"/>')
    ),
    "cut_exif": with_segments(JPEG, segment(0xE1, b"Exif\0\0" + exif(6)[:14])),
    "offset_outside": with_segments(
        JPEG, segment(0xE1, b"Exif\0\0II*\0" + struct.pack("<L", 2**32 - 1) + bytes(30))
    ),
    "two_orientations": with_segments(
        JPEG, app1(6, more=[struct.pack("<HHLHH", 0x0112, 3, 1, 3, 0)])
    ),
    "fill_bytes": JPEG[:2] + b"\xff\xff\xff" + app1(6) + JPEG[2:],
    "grey": encoded(scene("L"), quality=95, exif=app1(6)[4:]),
    "progressive": encoded(scene(), quality=95, progressive=True, exif=app1(6)[4:]),
    "cmyk": encoded(scene("CMYK"), quality=98, exif=app1(6)[4:]),
}


@pytest.mark.parametrize("name", CASES)
def test_unusual_jpeg(name):
    check(CASES[name])


def test_four_components_with_and_without_adobes_word():
    data = encoded(scene("CMYK"), quality=98, subsampling=0)
    check(data)
    begin = data.index(b"\xff\xee\x00\x0eAdobe")
    end = begin + 16
    check(data[:begin] + data[end:])
    # YCCK: the same numbers read as luminance and colour differences.
    check(data[: end - 1] + b"\x02" + data[end:], 10)


def palette(transparency=None, colors=7):
    image = scene().quantize(colors)
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


def png(color, depth, rows, *chunks):
    """A PNG of raw rows of bytes; `chunks` of (name, content) stand before the pixels."""
    height, width = len(rows), 8
    header = struct.pack(">LLBBBBB", width, height, depth, color, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(content))
        + name
        + content
        + struct.pack(">L", zlib.crc32(name + content))
        for name, content in parts
    )


GRAY_16 = Image.fromarray((np.arange(40 * 28).reshape(28, 40) * 50).astype(np.uint16))
WIDE = [bytes(range(i, i + 8 * 6)) for i in range(0, 60, 10)]
PNG_XMP = PngImagePlugin.PngInfo()
PNG_XMP.add_itxt("XML:com.adobe.xmp", '<a tiff:Orientation="6"/>')
PNG_TEXT = PngImagePlugin.PngInfo()
PNG_TEXT.add_itxt("Comment", '<a tiff:Orientation="6"/>')
PNG_EXIF_AT_THE_END = encoded(scene(), "PNG")
PNG_EXIF_AT_THE_END = (
    PNG_EXIF_AT_THE_END[:-12]
    + struct.pack(">L", len(exif(6)))
    + b"eXIf"
    + exif(6)
    + struct.pack(">L", zlib.crc32(b"eXIf" + exif(6)))
    + PNG_EXIF_AT_THE_END[-12:]
)
DARK = [bytes(value % 16 if i % 2 == 0 else value for i, value in enumerate(row)) for row in WIDE]
LOSSLESS = {
    "png": encoded(scene(), "PNG"),
    "png_rgba": encoded(scene("RGBA"), "PNG"),
    "png_rgba_turned": encoded(scene("RGBA"), "PNG", exif=exif(5, order=">")),
    "png_opaque_rgba": encoded(scene("RGB").convert("RGBA"), "PNG"),
    "png_la": encoded(scene("RGBA").convert("LA"), "PNG"),
    "png_gray": encoded(scene("L"), "PNG"),
    "png_bits": encoded(scene("1"), "PNG"),
    "png_palette": encoded(palette(), "PNG"),
    "png_palette_one": encoded(palette(), "PNG", transparency=2),
    "png_palette_many": encoded(palette(), "PNG", transparency=bytes([0, 90, 255, 130])),
    "png_rgb_trns": encoded(palette().convert("RGB"), "PNG", transparency=(127, 127, 127)),
    "png_rgb_trns_there": png(2, 8, [row[:24] for row in WIDE], (b"tRNS", b"\0\x0a\0\x0b\0\x0c")),
    "png_gray_trns": encoded(scene("L"), "PNG", transparency=90),
    "png_gray_16": encoded(GRAY_16, "PNG"),
    "png_gray_16_trns": png(0, 16, [row[:16] for row in WIDE], (b"tRNS", b"\x0a\x0b")),
    "png_gray_12": encoded(Image.fromarray(np.asarray(GRAY_16) // 16), "PNG"),
    "png_gray_8_of_16": encoded(Image.fromarray(np.asarray(GRAY_16) // 256), "PNG"),
    "png_gray_16_turned": encoded(GRAY_16, "PNG", exif=exif(6)),
    "png_rgb_16": png(2, 16, WIDE),
    "png_rgb_12": png(2, 16, DARK),
    "png_rgba_16": png(6, 16, [row + row[:16] for row in WIDE]),
    "png_la_16": png(4, 16, [row[:32] for row in WIDE]),
    "png_xmp": encoded(scene(), "PNG", pnginfo=PNG_XMP),
    "png_text": encoded(scene(), "PNG", pnginfo=PNG_TEXT),
    "png_exif_at_the_end": PNG_EXIF_AT_THE_END,
    "gif": encoded(palette(), "GIF"),
    "gif_gray": encoded(scene("L"), "GIF"),
    "gif_transparent": encoded(palette(), "GIF", transparency=3),
    "gif_animated": encoded(
        palette(),
        "GIF",
        save_all=True,
        append_images=[scene().rotate(90).quantize(5)],
        loop=0,
        comment=b"of two",
        transparency=1,
    ),
    "bmp": encoded(scene(), "BMP"),
    "bmp_gray": encoded(scene("L"), "BMP"),
    "bmp_bits": encoded(scene("1"), "BMP"),
    "bmp_palette": encoded(palette(), "BMP"),
    "bmp_rgba": encoded(scene("RGBA"), "BMP"),
    "bmp_odd_width": encoded(scene(width=37), "BMP"),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless(name):
    check(LOSSLESS[name])


def gif(left, top, transparent):
    """A GIF whose frame leaves a part of its canvas free, and has colours of its own."""
    data = encoded(palette(), "GIF")
    at = data.index(b"\x2c\0\0\0\0")
    own_table = 3 * 2 ** ((data[10] & 7) + 1)
    table = data[13 : 13 + own_table]
    frame = data[at : at + 9] + bytes([data[at + 9] | 0x80 | (data[10] & 7)]) + table
    frame = b"\x2c" + struct.pack("<HH", left, top) + frame[5:] + data[at + 10 :]
    control = b"\x21\xf9\x04" + bytes([transparent is not None, 0, 0, transparent or 0, 0])
    comment = b"\x21\xfe\x05hello\x03you\0"
    return data[:6] + struct.pack("<HH", 47, 41) + data[10:13] + table + comment + control + frame


@pytest.mark.parametrize("transparent", [None, 0, 4])
def test_a_gif_that_leaves_canvas_free(transparent):
    check(gif(3, 5, transparent))


def bmp(depth, coding, header=40, masks=b"", height=6, entry=None):
    row = np.random.default_rng(depth).integers(0, 256, (abs(height), (8 * depth + 31) // 32 * 4))
    start = 14 + header
    table = np.random.default_rng(0).integers(0, 256, (2**depth, entry)) if entry else np.zeros(0)
    table = table.astype(np.uint8).tobytes()
    if header == 12:
        described = struct.pack("<LHHHH", 12, 8, height, 1, depth)
    else:
        described = struct.pack("<LllHHLLllLL", header, 8, height, 1, depth, coding, 0, 0, 0, 0, 0)
    body = (described + masks).ljust(header, b"\0") + table + row.astype(np.uint8).tobytes()
    offset = start + len(table) + max(len(masks) - (header - 40), 0) * (header == 40)
    return b"BM" + struct.pack("<LHHL", 14 + len(body), 0, 0, offset) + body


MASKS = struct.pack("<LLL", 0xFF0000, 0xFF00, 0xFF)
KINDS_OF_BMP = {
    "top_down": bmp(24, 0, height=-6),
    "32": bmp(32, 0),
    "4": bmp(4, 0, entry=4),
    "1": bmp(1, 0, entry=4),
    "8": bmp(8, 0, entry=4),
    "old": bmp(8, 0, header=12, entry=3),
    "old_24": bmp(24, 0, header=12),
    "masks": bmp(32, 3, masks=MASKS),
    "masks_v4": bmp(32, 3, header=108, masks=MASKS + bytes(4)),
    "alpha": bmp(32, 3, header=124, masks=MASKS + b"\0\0\0\xff"),
}


@pytest.mark.parametrize("name", KINDS_OF_BMP)
def test_kinds_of_bmp(name):
    check(KINDS_OF_BMP[name])


def test_one_batch_of_all_kinds():
    batch = [*CASES.values(), *LOSSLESS.values(), *KINDS_OF_BMP.values()]
    found = read(batch)
    assert found.rows.numpy().tolist() == list(range(len(batch)))
    for data, pixels in zip(batch, found.pixels.numpy(), strict=True):
        np.testing.assert_array_equal(pixels, served(data))


NOT_SERVED = {
    b"no bytes: send JPEG, PNG, GIF or BMP": [b""],
    b"no picture: send JPEG, PNG, GIF or BMP": [b"x", b"hello, world and more of it", b"\0" * 99],
    b"WebP can't be decoded here: send JPEG, PNG, GIF or BMP": [encoded(scene(), "WEBP")],
    b"TIFF can't be decoded here: send JPEG, PNG, GIF or BMP": [encoded(scene(), "TIFF")],
    b"AVIF can't be decoded here: send JPEG, PNG, GIF or BMP": [encoded(scene(), "AVIF")],
    b"JPEG 2000 can't be decoded here: send JPEG, PNG, GIF or BMP": [encoded(scene(), "JPEG2000")],
    b"HEIC can't be decoded here: send JPEG, PNG, GIF or BMP": [b"\0\0\0\x18ftypheic" + bytes(40)],
    b"JPEG is damaged, or of a rare kind: send JPEG, PNG, GIF or BMP": [
        JPEG[:300], JPEG[:3], JPEG[:30] + b"\xff" * 300, TURNED[:60],
    ],
    b"PNG is damaged, or of a rare kind: send JPEG, PNG, GIF or BMP": [
        LOSSLESS["png"][:9], LOSSLESS["png_rgba"][:100], LOSSLESS["png"][:45] + b"x" * 99,
    ],
    b"GIF is damaged, or of a rare kind: send JPEG, PNG, GIF or BMP": [
        LOSSLESS["gif"][:7], LOSSLESS["gif_transparent"][:40], b"GIF89a" + b"\7" * 40,
    ],
    b"BMP of a kind that is not read here: send JPEG, PNG, GIF or BMP": [
        b"BM", LOSSLESS["bmp"][:200], bmp(16, 0), bmp(8, 1, entry=4), b"BM" + b"\xff" * 300,
    ],
    b"more than 89,478,485 pixels: send it smaller": [
        LOSSLESS["png"][:16] + struct.pack(">LL", 40_000, 40_000) + LOSSLESS["png"][24:],
        LOSSLESS["gif"][:6] + struct.pack("<HH", 40_000, 40_000) + LOSSLESS["gif"][10:],
        JPEG.replace(b"\x08\x00\x1c\x00\x28", b"\x08\x9c\x40\x9c\x40"),
    ],
}  # fmt: skip


def test_a_picture_that_cant_be_read_does_not_fail_its_neighbours():
    batch, wanted = [JPEG], [b""]
    for text, pictures in NOT_SERVED.items():
        batch += [*pictures, LOSSLESS["png_rgba"]]
        wanted += [text] * len(pictures) + [b""]
    found = read(batch)
    assert found.status.numpy().tolist() == wanted
    rows = found.rows.numpy()
    assert [row >= 0 for row in rows] == [text == b"" for text in wanted]
    np.testing.assert_array_equal(found.pixels[rows[0]], served(JPEG))
    np.testing.assert_array_equal(found.pixels[rows[-1]], served(LOSSLESS["png_rgba"]))
    for data, text in zip(batch, wanted, strict=True):
        assert read([data]).status.numpy().tolist() == [text]


def test_no_picture_at_all():
    found = read(tf.zeros([0], tf.string))
    assert found.rows.shape == found.status.shape == (0,)


def test_random_bytes_raise_nothing():
    """Pictures with bytes changed at random, in their headers above all."""
    noise = np.random.default_rng(0)
    batch = []
    for data in [*CASES.values(), *LOSSLESS.values(), *KINDS_OF_BMP.values()]:
        for _ in range(6):
            changed = bytearray(data)
            for at in noise.integers(0, min(len(data), 200), 4):
                changed[at] = noise.integers(0, 256)
            batch.append(bytes(changed[: noise.integers(1, 2 * len(data))]))
    found = read(batch)
    assert len(found.status) == len(batch)
