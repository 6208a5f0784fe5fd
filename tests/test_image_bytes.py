import base64
import io
import random
import struct
import sys
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets.conversion import image_bytes
from datasets.conversion.image_bytes import Changes, Photograph

# 16 x 16, of one colour, as libjpeg-turbo's cjpeg -arithmetic writes it; Pillow writes none.
_ARITHMETIC_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1td"
    "hbWGkJ6jq62rZ4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSk"
    "pKSkpKSkpKSkpKSkpKSkpKSkpKT/yQARCAAQABADASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD+fTjl"
    "4ID/2Q=="
)


def _drawn(mode="RGB"):
    """A picture whose four corners differ, so that a turn or a flip shows."""
    corners = np.array([[[250, 20, 20], [20, 240, 40]], [[30, 30, 230], [220, 210, 30]]], np.uint8)
    return Image.fromarray(corners).resize((48, 32), Image.Resampling.BICUBIC).convert(mode)


def _saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _with_alpha():
    image = _drawn("RGBA")
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (0, 0, 24, 32))
    image.putalpha(alpha)
    return image


def _decoded(encoded):
    """What TensorFlow makes of it, int [height, width, 3]."""
    decode = tf.io.decode_png if encoded.format == "png" else tf.io.decode_jpeg
    return decode(encoded.data, channels=3).numpy().astype(int)


def _assert_looks_like(encoded, expected, tolerance):
    pixels = _decoded(encoded)
    assert pixels.shape == (encoded.height, encoded.width, 3)
    expected = np.asarray(expected.convert("RGB")).astype(int)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).mean() < tolerance


_KEPT = {
    "baseline": _saved(_drawn(), "JPEG"),
    "progressive": _saved(_drawn(), "JPEG", progressive=True),
    "arithmetic-coded": _ARITHMETIC_JPEG,
    "grayscale": _saved(_drawn("L"), "JPEG"),
    "4:4:4": _saved(_drawn(), "JPEG", subsampling=0),
    "4:2:2": _saved(_drawn(), "JPEG", subsampling=1),
    "restart markers": _saved(_drawn(), "JPEG", restart_marker_blocks=2),
    "Adobe RGB without transform": _saved(_drawn(), "JPEG", keep_rgb=True),
    "upright EXIF": _saved(_drawn(), "JPEG", exif=_exif(1)),
    "senseless EXIF": _saved(_drawn(), "JPEG", exif=_exif(99)),
    "broken EXIF": _saved(_drawn(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff"),
    "garbage after the end": _saved(_drawn(), "JPEG") + b"\0garbage" * 99,
    "two pictures, as phones store": _saved(
        _drawn(), "MPO", save_all=True, append_images=[_drawn().rotate(180)]
    ),
    "PNG": _saved(_drawn(), "PNG"),
    "PNG, gray": _saved(_drawn("L"), "PNG"),
    "PNG, black and white": _saved(_drawn("1"), "PNG"),
    "PNG, palette": _saved(_drawn("P"), "PNG"),
    "PNG, palette of four": _saved(_drawn().quantize(4), "PNG", bits=2),
    "PNG, opaque alpha": _saved(_drawn("RGBA"), "PNG"),
    "PNG, opaque gray and alpha": _saved(_drawn("LA"), "PNG"),
    "PNG, garbage after the end": _saved(_drawn(), "PNG") + b"garbage",
}


@pytest.mark.parametrize("data", _KEPT.values(), ids=_KEPT)
def test_what_tensorflow_decodes_as_it_should_look_keeps_its_bytes(data):
    encoded = Photograph(data).encode()
    assert encoded.change == ""
    assert encoded.data == data
    assert encoded.format == ("png" if data.startswith(b"\x89PNG") else "jpeg")
    with Image.open(io.BytesIO(data)) as image:
        # TensorFlow's JPEG decoding is the fast one, Pillow's the accurate one.
        _assert_looks_like(encoded, image, 2 if encoded.format == "jpeg" else 1e-9)


def _sixteen_bit():
    deep = np.asarray(_drawn("L")).astype(np.uint16) * 257
    return _saved(Image.fromarray(deep), "PNG")


def _sixteen_bit_rgb():
    """Written by hand: Pillow saves none."""
    rows = np.asarray(_drawn()).astype(">u2") * 257
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind, content):
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", 48, 32, 16, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


_CHANGED = {
    "CMYK": (_saved(_drawn("CMYK"), "JPEG", quality=95), "jpeg", "CMYK JPEG"),
    "16-bit gray PNG": (_sixteen_bit(), "png", "16-bit PNG"),
    "16-bit PNG": (_sixteen_bit_rgb(), "png", "16-bit PNG"),
    "GIF": (
        _saved(
            _drawn().quantize(256), "GIF", save_all=True, append_images=[Image.new("P", (48, 32))]
        ),
        "png",
        "first frame of GIF",
    ),
    "GIF of one frame": (_saved(_drawn().quantize(256), "GIF"), "png", "GIF"),
    "BMP": (_saved(_drawn(), "BMP"), "png", "BMP"),
    "PPM": (_saved(_drawn(), "PPM"), "png", "PPM"),
    "TIFF": (_saved(_drawn(), "TIFF"), "png", "TIFF"),
    "JPEG in TIFF": (_saved(_drawn(), "TIFF", compression="jpeg", quality=95), "jpeg", "TIFF"),
    "WebP": (_saved(_drawn(), "WEBP", quality=95), "jpeg", "WEBP"),
    "lossless WebP": (_saved(_drawn(), "WEBP", lossless=True), "png", "WEBP"),
}


@pytest.mark.parametrize(("data", "kind", "change"), _CHANGED.values(), ids=_CHANGED)
def test_all_else_is_encoded_anew(data, kind, change):
    encoded = Photograph(data).encode()
    assert encoded.change == change
    assert encoded.format == kind
    expected = _drawn("L") if "gray" in change or data == _sixteen_bit() else _drawn()
    _assert_looks_like(encoded, expected, 12)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(kind, orientation):
    quality = {} if kind == "PNG" else {"quality": 95}
    data = _saved(_drawn(), kind, exif=_exif(orientation), **quality)
    photograph = Photograph(data)
    encoded = photograph.encode()
    upright = _drawn().transpose(image_bytes._TURNS[orientation])
    assert photograph.size == (encoded.width, encoded.height) == upright.size
    assert encoded.change
    _assert_looks_like(encoded, upright, 4)


_TRANSPARENT = {
    "RGBA": _saved(_with_alpha(), "PNG"),
    "gray and alpha": _saved(_with_alpha().convert("LA"), "PNG"),
    "palette": _saved(_with_alpha().quantize(64), "PNG"),
    "WebP": _saved(_with_alpha(), "WEBP", lossless=True),
}


@pytest.mark.parametrize("data", _TRANSPARENT.values(), ids=_TRANSPARENT)
def test_transparency_is_laid_on_white(data):
    encoded = Photograph(data).encode()
    assert encoded.change in ("transparency", "WEBP")
    pixels = _decoded(encoded)
    assert (pixels[:, :23] == 255).all()
    assert (pixels[:, 25:] < 250).any(axis=-1).all()


def _cut(data, count):
    return data[:-count]


def _bad_checksum():
    data = bytearray(_saved(_drawn(), "PNG"))
    data[data.index(b"IDAT") + 20] ^= 1
    return bytes(data)


def _bomb():
    data = bytearray(_saved(Image.new("1", (1, 1)), "PNG"))
    data[16:24] = struct.pack(">II", 50_000, 50_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


_REFUSED = {
    "nothing": (b"", "empty file"),
    "HTML": (b"<!DOCTYPE html><html></html>", r"not an image: begins with b'<!DOCTYPE html>"),
    "text": (b"hello", "not an image: begins with b'hello'"),
    "zeros": (bytes(1000), "not an image"),
    "JPEG, half": (_cut(_KEPT["baseline"], 300), "damaged image"),
    "JPEG, two bytes short": (_cut(_KEPT["baseline"], 2), "damaged image: image file is truncated"),
    "JPEG, progressive": (_cut(_KEPT["progressive"], 100), "damaged image"),
    "JPEG, header only": (_KEPT["baseline"][:25], "damaged image|not an image"),
    "PNG, half": (_cut(_KEPT["PNG"], 60), "damaged image"),
    "PNG without its end": (_cut(_KEPT["PNG"], 12), "damaged image: PNG file is truncated"),
    "PNG, bad checksum": (_bad_checksum(), "damaged image: PNG chunk fails its checksum"),
    "bomb": (_bomb(), "too many pixels"),
    "GIF, half": (_cut(_CHANGED["GIF"][0], 500), "damaged image"),
    "WebP, half": (_cut(_CHANGED["WebP"][0], 100), "damaged image|not an image"),
    "TIFF, half": (_cut(_CHANGED["TIFF"][0], 1500), "damaged image|not an image"),
    "floats": (_saved(Image.new("F", (9, 9)), "TIFF"), "damaged image: floating-point pixels"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
}


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize(("data", "reason"), _REFUSED.values(), ids=_REFUSED)
def test_what_is_no_whole_image_is_refused(data, reason):
    with pytest.raises(ValueError, match=reason):
        Photograph(data).encode()


@pytest.mark.filterwarnings("ignore:Image size")
def test_a_bomb_is_refused_by_its_header(monkeypatch):
    monkeypatch.setattr(image_bytes, "MAX_PIXELS", 48 * 32 - 1)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("was decoded"))
    with pytest.raises(ValueError, match="too many pixels: 48 x 32"):
        Photograph(_KEPT["baseline"])


@pytest.mark.parametrize(
    ("options", "place"),
    [({"lossless": True}, 21), ({}, 26), ({"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}, 24)],
    ids=["VP8L", "VP8", "VP8X"],
)
def test_a_webp_of_too_many_pixels_is_not_opened(options, place, monkeypatch):
    """Pillow takes eight bytes for each before it refuses it: found by fuzzing."""
    file = io.BytesIO()
    Image.new("RGB", (7, 300)).save(file, "WEBP", **options)
    data = file.getvalue()
    assert Photograph(data).size == (7, 300)
    monkeypatch.setattr(Image, "open", lambda *args, **kwargs: pytest.fail("it was opened"))
    with pytest.raises(ValueError, match=r"^too many pixels: \d{9}"):
        Photograph(data[:place] + b"\xff" * 4 + data[place + 4 :])


def test_a_crop_is_what_it_says():
    encoded = Photograph(_KEPT["PNG"]).encode(Changes(crop=(30, 4, 48, 20)))
    assert (encoded.change, encoded.format) == ("crop", "png")
    _assert_looks_like(encoded, _drawn().crop((30, 4, 48, 20)), 1e-9)


def test_a_crop_refers_to_the_upright_image():
    data = _saved(_drawn(), "PNG", exif=_exif(6))
    upright = _drawn().transpose(Image.Transpose.ROTATE_270)
    encoded = Photograph(data).encode(Changes(crop=(0, 0, 32, 24)))
    _assert_looks_like(encoded, upright.crop((0, 0, 32, 24)), 1e-9)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_max_side_shrinks_what_is_larger_and_nothing_else(kind):
    large = _drawn().resize((480, 320), Image.Resampling.BICUBIC)
    encoded = Photograph(_saved(large, kind)).encode(Changes(max_side=48))
    assert (encoded.width, encoded.height) == (48, 32)
    assert encoded.change == "max_side"
    _assert_looks_like(encoded, _drawn(), 4)
    small = _saved(_drawn(), kind)
    assert Photograph(small).encode(Changes(max_side=48)).data == small


def test_no_damage_slips_through_that_tensorflow_refuses():
    """Mutilates images at random; what is taken must decode to the size that is stated."""
    rng = random.Random(7)
    seeds = [_KEPT[name] for name in ("baseline", "progressive", "restart markers", "PNG")]
    taken = 0
    for _ in range(1500):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice([1, 1, 2, 4])):
            i = rng.randrange(2, len(data))
            if rng.random() < 0.6:
                data[i] = rng.choice([rng.randrange(256), 0xFF])
            elif rng.random() < 0.5:
                del data[i : i + rng.choice([1, 10])]
            else:
                data[i:i] = b"\xff" + bytes([rng.choice([0xD9, 0xDA, 0xE6, 0xD3, 0xDC])])
        try:
            encoded = Photograph(bytes(data)).encode()
        except ValueError:
            continue
        taken += 1
        assert _decoded(encoded).shape == (encoded.height, encoded.width, 3)
    assert taken > 100


# Filters, and trust


def test_equalization_spreads_the_histogram_and_keeps_the_size():
    dark = np.random.default_rng(0).normal(60, 10, (30, 40, 3)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(dark).save(file, "PNG")
    encoded = image_bytes.Photograph(file.getvalue()).encode(Changes(filters=("equalize",)))
    assert (encoded.change, encoded.format) == ("equalize", "png")
    after = np.asarray(Image.open(io.BytesIO(encoded.data)))
    assert after.shape == dark.shape
    assert after.std() > 3 * dark.std()


def test_denoising_takes_noise_and_leaves_edges():
    pytest.importorskip("cv2")
    clean = np.zeros((64, 64, 3)) + [60, 90, 120]
    clean[:, 32:] += 100
    noisy = clean + np.random.default_rng(0).normal(0, 8, clean.shape)
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    encoded = image_bytes.Photograph(file.getvalue()).encode(Changes(filters=("denoise",)))
    after = np.asarray(Image.open(io.BytesIO(encoded.data)), np.float64)
    assert np.abs(after - clean).mean() < 0.6 * np.abs(noisy - clean).mean()
    assert np.abs(after - clean).max() < 30  # also the channels are in their order


def test_a_header_is_enough_where_files_are_trusted():
    file = io.BytesIO()
    Image.effect_noise((64, 64), 80).convert("RGB").save(file, "JPEG")
    # Damaged inside its scan, with the end marker in place.
    data = bytearray(file.getvalue())
    data[len(data) // 2 : len(data) - 2] = b"\xff\xd0" * ((len(data) - 2 - len(data) // 2) // 2)
    photograph = image_bytes.Photograph(bytes(data))
    assert photograph.encode(verify=False).data == bytes(data)


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"8BPS", "Photoshop"),
        (b"%PDF-1.7", "PDF"),
    ],
)
def test_kinds_that_are_not_read_are_named(start, kind):
    with pytest.raises(ValueError, match=f"^{kind} image: save it as JPEG or PNG$"):
        Photograph(start + bytes(40))


@pytest.mark.parametrize("kind", ["AVIF", "HEIF", "JPEG2000"])
def test_further_formats_are_read(kind):
    if kind == "HEIF":
        pytest.importorskip(
            "pillow_heif", reason='needs pip install ".[heif]"'
        ).register_heif_opener()
    y, x = np.mgrid[0:64, 0:96]
    drawn = np.stack([2 * x, 3 * y, x + y], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(drawn).save(file, kind, quality=95)
    photograph = Photograph(file.getvalue())
    assert photograph.size == (96, 64)
    done = photograph.encode()
    assert (done.format, done.change) == ("png" if kind == "JPEG2000" else "jpeg", kind)
    found = np.asarray(Image.open(io.BytesIO(done.data)), np.float32)
    assert np.abs(found - drawn).mean() < 3


def test_avif_is_turned_once():
    drawn = np.zeros((64, 96, 3), np.uint8)
    drawn[:32, :48] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(drawn).save(file, "AVIF", exif=exif)
    photograph = Photograph(file.getvalue())
    assert photograph.size == (64, 96)
    found = np.asarray(Image.open(io.BytesIO(photograph.encode().data)), np.float32)
    assert np.abs(found - np.rot90(drawn, -1)).mean() < 3


def test_a_heic_with_another_size_than_it_says_is_refused():
    pillow_heif = pytest.importorskip("pillow_heif", reason='needs pip install ".[heif]"')
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (24, 16))).save(file)
    data = file.getvalue()
    width = data.index(b"clap") + 4  # of what is to be seen of the coded square
    data = data[:width] + (280).to_bytes(4, "big") + data[width + 4 :]
    assert Photograph(data).size == (280, 16)  # boxes refer to it
    with pytest.raises(ValueError, match="its header says 280 x 16 pixels, and it has 64 x 16"):
        Photograph(data).encode()


def test_heic_names_its_extra(monkeypatch):
    monkeypatch.setattr(image_bytes, "_formats", lambda: ("JPEG",))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=r'^HEIC image: needs the extra heif\. .*"\.\[heif\]"'):
        Photograph(b"\0\0\0\x18ftypheic" + bytes(40))
