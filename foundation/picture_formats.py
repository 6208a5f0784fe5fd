"""Formats of picture files, by their first bytes; conversion and served graphs name them alike."""

import os

# Format, offset, what stands there. Of two that fit, the first holds.
SIGNATURES = (
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
    ("GIF", 0, b"GIF87a"),
    ("GIF", 0, b"GIF89a"),
    ("BMP", 0, b"BM"),
    ("WebP", 8, b"WEBP"),
    *(("TIFF", 0, start) for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    *(("AVIF", 4, b"ftyp" + brand) for brand in (b"avif", b"avis")),
    *(
        ("HEIC", 4, b"ftyp" + brand)
        for brand in (
            *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
            *(b"mif1", b"msf1"),
        )
    ),
    ("JPEG 2000", 4, b"jP  "),
    ("JPEG 2000", 0, b"\xff\x4f\xff\x51"),
    ("JPEG XL", 4, b"JXL "),
    ("JPEG XL", 0, b"\xff\x0a"),
    *(("PNM", 0, b"P%d%s" % (i, space)) for i in range(1, 7) for space in (b"\n", b" ", b"\r")),
    ("Photoshop", 0, b"8BPS"),
    ("PDF", 0, b"%PDF"),
    ("SVG", 0, b"<svg"),
)
# Pillow's own threshold for a decompression bomb: a quarter of a gibibyte when decoded to RGB.
MAX_PIXELS = 89_478_485
_SUFFIXES = (
    ".jpg .jpeg .jpe .jfif .png .gif .bmp .dib .webp .tif .tiff .ppm .pgm .pbm .pnm .avif .heic "
    ".heif .hif .jp2 .j2k .jxl"
).split()
# So many bytes tell the format.
NUM_BYTES = max(offset + len(magic) for _, offset, magic in SIGNATURES)


def name(start: bytes) -> str:
    """The format of a file that begins so; "" where it is none of these."""
    for found, offset, magic in SIGNATURES:
        if start[offset : offset + len(magic)] == magic:
            return found
    return ""


def is_picture(path: str, start: bytes) -> bool:
    """Whether a file is a picture, by its first bytes, or ought to be one, by its name."""
    suffix = os.path.splitext(path)[1].lower()
    return name(start) not in ("", "PDF", "SVG") or suffix in _SUFFIXES
