"""What a conversion reads of strangers: annotations, tables, lists of classes, pictures."""

import contextlib
import csv
import io
import json
import math
import pathlib
import struct
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from datasets.conversion.depth import Depth
from datasets.conversion.image_bytes import Photograph
from datasets.conversion.records import RecordMaker
from datasets.findings import Finding
from datasets.options import ConversionOptions
from datasets.schema import Box, LabeledImage
from datasets.sources import class_list, csv_table, split_lists, voc_xml, yolo
from datasets.sources.image_folder import ImageFolder
from foundation import labels
from foundation.errors import InputError
from runs import category_names
from tests.fuzzing import mutations
from tests.fuzzing.workers import Read, Target

# Names that lead somewhere, or nowhere; `outside` lies beside the folder that is read.
NAMES = (
    *("a.jpg", "a", "b.png", "sub/c.jpg", "c", "images/a.jpg", "A.JPG", "a.png", "missing.jpg"),
    *("../outside/secret.jpg", "../../outside/secret.jpg", "/etc/passwd", "C:\\x\\a.jpg", "~/a"),
    *("../outside/secret", "sub/../../../outside/secret.jpg", "https://example.org/a.jpg", ".."),
    *("a\0.jpg", "x" * 300, "/".join(["d"] * 300), "\u202egpj.a", "a\n.jpg", "*", "sub", "", " "),
)
CLASSES = ("cat", "dog/../x", "..", "<script>", "\u202etac", "a\tb", "x" * 500, "1", "", "é")
_TEXT = st.one_of(
    *(st.sampled_from(one) for one in (NAMES, CLASSES, mutations.NUMBERS)),
    st.text(max_size=8),
    st.integers(-20, 120).map(str),
    st.floats().map(str),
)


def _write(path: pathlib.Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def picture(kind: str, mode: str = "RGB", size: tuple[int, int] = (24, 16), **how) -> bytes:
    """A small picture's file."""
    values = np.arange(size[0] * size[1] * 4, dtype=np.uint32).reshape(size[1], size[0], 4) * 37
    image = Image.fromarray((values % 251).astype(np.uint8), "RGBA")
    if mode == "I;16":
        image = Image.fromarray((values[..., 0] * 7 % 4096).astype(np.uint16))
    buffer = io.BytesIO()
    (image if mode == "I;16" else image.convert(mode)).save(buffer, kind, **how)
    return buffer.getvalue()


def _photographs(folder: pathlib.Path) -> ImageFolder:
    for name in ("a.jpg", "b.png", "sub/c.jpg", "../../outside/secret.jpg"):
        _write(folder / "images" / name, picture("PNG" if "png" in name else "JPEG"))
    return ImageFolder(str(folder / "images"))


def _maker(images: ImageFolder, **options) -> Callable[[LabeledImage], None]:
    """Makes records as a conversion does, once with crops and once without."""
    makers = [
        RecordMaker(images, {}, ConversionOptions(crop_to_box=crop, **options), Depth("full", list))
        for crop in (False, True)
    ]

    def make(image: LabeledImage) -> None:
        for maker in makers:
            maker.class_numbers[image.label] = 0
            with contextlib.suppress(ValueError):
                maker.make(image)
            maker.class_numbers.clear()

    return make


def _taken(items, make: Callable[[LabeledImage], None]) -> None:
    """What a conversion does with what a source yields."""
    rows = csv.writer(io.StringIO())
    for item in items:
        if isinstance(item, Finding):
            rows.writerow([item.file, item.reason])
        else:
            make(item)


# Annotations

_VOC = """<annotation><folder>x</folder><filename>a.jpg</filename><path>/home/x/a.jpg</path>
<size><width>24</width><height>16</height><depth>3</depth></size><object><name>cat</name>
<pose>Left</pose><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax><ymax>12</ymax></bndbox></object>
<object><name>dog</name><bndbox><xmin>0.1</xmin><ymin>0.1</ymin><xmax>0.9</xmax><ymax>0.8</ymax>
</bndbox><part><name>tail</name></part></object></annotation>"""
_ENTITIES = """<?xml version="1.0" encoding="utf-8"?><!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c SYSTEM "../outside/secret.xml">]>"""
_XML_WORDS = (
    *(b"&a;", b"&c;", b"<object>", b"</object>", b"<!--", b"<![CDATA[", b"]]>", b"<?xml ", b"&#0;"),
    *(b"&#x110000;", b"encoding='utf-16'", b"encoding='ebcdic'", b"\xff\xfe", b"<bndbox/>"),
    *(b"<name/>", b"xmlns='x'", b"<xi:include href='../outside/secret.xml'/>", b"standalone='no'"),
    *(one.encode() for one in NAMES if one),
)


def _xml(folder: pathlib.Path) -> tuple[list[bytes], Read]:
    images = _photographs(folder)
    make = _maker(images)
    place = folder / "annotations" / "a.xml"
    _write(folder.parent / "outside" / "secret.xml", _VOC.encode())

    def read(data: bytes) -> None:
        path = _write(place, data)
        for rule in ("largest", "each"):
            _taken(voc_xml.read(str(place.parent), images, rule), make)
        with contextlib.suppress(ValueError):
            voc_xml.largest_box(path)

    return [_VOC.encode(), (_ENTITIES + _VOC).encode(), _VOC.encode("utf-16")], read


_TAGS = "annotation object name bndbox xmin ymin xmax ymax size width height filename part".split()


@st.composite
def _elements(draw, depth: int = 0) -> str:
    tag = draw(st.sampled_from(_TAGS))
    if depth > 3 or draw(st.booleans()):
        text = draw(_TEXT)
        text = text.replace("&", "&amp;").replace("<", "&lt;") if draw(st.booleans()) else text
        return f"<{tag}>{text}</{tag}>"
    inside = draw(st.lists(_elements(depth + 1), max_size=4))
    return f"<{tag}>{''.join(inside)}</{tag}>"


def _annotations() -> st.SearchStrategy[bytes]:
    sides = st.tuples(*[_TEXT] * 4).map(
        lambda s: (
            f"<bndbox><xmin>{s[0]}</xmin><ymin>{s[1]}</ymin><xmax>{s[2]}</xmax>"
            f"<ymax>{s[3]}</ymax></bndbox>"
        )
    )
    things = st.tuples(_TEXT, sides).map(lambda o: f"<object><name>{o[0]}</name>{o[1]}</object>")
    sizes = st.tuples(_TEXT, _TEXT).map(
        lambda s: f"<size><width>{s[0]}</width><height>{s[1]}</height></size>"
    )
    names = _TEXT.map("<filename>{}</filename>".format)
    parts = st.lists(st.one_of(things, things, sizes, names, _elements()), max_size=6)
    return parts.map(lambda p: f"<annotation>{''.join(p)}</annotation>".encode(errors="replace"))


def _yolo(folder: pathlib.Path) -> tuple[list[bytes], Read]:
    """A file of labels, and behind a line of dashes the file of names."""
    images = _photographs(folder)
    make = _maker(images)
    place = folder / "labels"

    def read(data: bytes) -> None:
        lines, _, names = data.partition(b"\n---\n")
        _write(place / "a.txt", lines)
        _write(place / "data.yaml", names)
        _taken(yolo.read(str(place), images, "each"), make)

    sound = b"0 0.5 0.5 0.2 0.3\n1 0.1 0.1 0.2 0.2 0.9\n1 0.1 0.1 0.5 0.1 0.5 0.5\n---\n"
    names = (
        b"names: [cat, 'dog']\ntrain: ../images/train\nval: sub\ntest: lists/test.txt\n",
        b'path: ../outside\nnames:\n  0: cat\n  1: "dog"\ntrain: ../../outside/secret.txt\n',
    )
    _write(folder.parent / "outside" / "secret.txt", b"a.jpg\n")
    return [sound + one for one in names], read


# Tables and lists


def _csv(folder: pathlib.Path) -> tuple[list[bytes], Read]:
    images = _photographs(folder)
    make = _maker(images)
    place = folder / "table.csv"

    def read(data: bytes) -> None:
        path = _write(place, data)
        try:
            _taken(csv_table.read([path], images, "largest"), make)
        finally:
            with contextlib.suppress(ValueError):
                csv_table.labels(path)
        chosen = ("filename:1", "label:2")
        _taken(csv_table.read([path], images, "each", chosen=chosen), make)

    sound = (
        "filename,label,split,width,height,xmin,ymin,xmax,ymax\na.jpg,cat,train,24,16,1,2,9,12\n"
        "sub/c.jpg,dog,test,,,,,,\n",
        'image;class\r\na;cat\r\n"b.png";"do""g"\r\n',
        "a.jpg\tcat\nb.png\tdog\n",
        "sep=;\nfilename;cat;dog\na.jpg;1;0\nb.png;0;1.0\n",
        "TRAIN,gs://x/a.jpg,cat,0.1,0.1,,,0.8,0.9\nTEST,b.png,dog,0.1,0.1,,,0.8,0.9\n",
    )
    return [one.encode() for one in sound], read


def _tables() -> st.SearchStrategy[bytes]:
    headings = st.sampled_from(
        "filename label split width height xmin ymin xmax ymax id class cat dog Unnamed:0".split()
    )
    cell = st.one_of(_TEXT, st.sampled_from(("0", "1", "1.0", "train", "UNASSIGNED", '"', "\0")))
    head = st.lists(st.one_of(headings, headings, cell), min_size=1, max_size=9)
    rows = st.lists(st.lists(cell, max_size=9), max_size=5)
    mark = st.sampled_from(",;\t|")
    end = st.sampled_from(("\n", "\r\n", "\r"))
    quoted = st.booleans()

    def text(parts) -> bytes:
        first, others, comma, newline, quote = parts

        def one(value: str) -> str:
            return '"' + value.replace('"', '""') + '"' if quote else value

        lines = (comma.join(map(one, row)) for row in [first, *others])
        return newline.join(lines).encode(errors="surrogateescape" if quote else "replace")

    return st.tuples(head, rows, mark, end, quoted).map(
        lambda parts: (
            text(parts)
            if not any("\ud800" <= c <= "\udfff" for row in parts[1] for v in row for c in v)
            else b""
        )
    )


_CLASS_FILES = (
    b"cat\ndog\n",
    b"0:cat\n1:dog\n",
    b"1,dog\n0,cat\n",
    b"class,id\ncat,0\ndog,1\n",
    b'["cat", "dog"]',
    b'{"cat": 0, "dog": 1}',
    b'{"0": ["n01", "cat"], "1": ["n02", "dog"]}',
    b'nc: 2\nnames: [cat, "do\\"g"]  # two\n',
    b"names:\n  0: cat\n  1: 'dog'\n",
    b"names:\n- cat\n- dog\n",
    b"item {\n  id: 1\n  name: 'cat'\n}\nitem {\n  id: 2\n  name: \"dog\"\n display_name: 'd'\n}\n",
    b"cat, dog",
    b"0 cat\n1 dog\n",
)
_CLASS_WORDS = (
    *(b"item {", b"}", b"names:", b"id: ", b"- ", b"[[", b"{{", b'"', b"'", b"\\", b"#", b"\n"),
    *(b"[" * 2000, b'{"a":' * 2000, b"\xff", b"\xef\xbb\xbf", b"\\ud800", b"NaN", b":", b","),
)


def _class_maps(folder: pathlib.Path) -> tuple[list[bytes], Read]:
    def read(data: bytes) -> None:
        refused = []
        for name in ("classes.txt", "data.yaml"):
            try:
                class_list.read(_write(folder / name, data))
            except InputError as error:
                refused.append(error)
        with contextlib.suppress(InputError):
            category_names.shown(("cat", "dog"), str(folder / "classes.txt"))
        if len(refused) == 2:
            raise refused[0]

    return list(_CLASS_FILES), read


def _class_texts() -> st.SearchStrategy[bytes]:
    number = st.sampled_from(("0", "1", "2", "01", "9" * 5000, "-1", "²", "٣", "1e3", ""))
    name = st.one_of(_TEXT, st.sampled_from(("cat", "dog", '"cat"', "'dog'", "[cat", "{")))
    mark = st.sampled_from((":", " ", ",", ";", "\t", ": ", "  "))
    line = st.one_of(
        name,
        st.tuples(number, mark, name).map("".join),
        st.tuples(name, mark, number).map("".join),
        name.map("- {}".format),
        st.tuples(number, name).map(lambda p: f"item {{ id: {p[0]} name: '{p[1]}' }}"),
    )
    head = st.sampled_from(("", "", "names:\n", "names: [", "class,id\n", "\ufeff"))
    lines = st.tuples(head, st.lists(line, max_size=5).map("\n".join)).map("".join)
    return st.one_of(
        lines.map(lambda t: t.encode(errors="replace")), documents().map(json.dumps).map(str.encode)
    )


def documents() -> st.SearchStrategy:
    """Any JSON, with names and numbers that mean something."""
    leaf = st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), _TEXT, st.integers(-2, 300))
    )
    keys = st.one_of(st.sampled_from(("0", "1", "2", "names", "classes", "cat", "dog")), _TEXT)
    return st.recursive(
        leaf,
        lambda inside: st.one_of(
            st.lists(inside, max_size=4), st.dictionaries(keys, inside, max_size=4)
        ),
        max_leaves=8,
    )


def _labels_txt(folder: pathlib.Path) -> tuple[list[bytes], Read]:
    def read(data: bytes) -> None:
        names = labels.read(_write(folder / labels.FILE_NAME, data))
        labels.shortened(names)
        labels.write(folder / "again.txt", names)
        kept = [name for name in map(labels.clean, names) if name]
        for name in kept:
            labels.printable(name)

    return [b"0:cat\n1:dog\n", b"cat\ndog\n", b"\xef\xbb\xbf1:dog\n0:cat\n"], read


def _split_lists(folder: pathlib.Path) -> tuple[list[bytes], Read]:
    import scipy.io

    buffer = io.BytesIO()
    names = np.array([["a.jpg"], ["sub/c.jpg"]], dtype=object)
    scipy.io.savemat(buffer, {"file_list": names})
    compressed = io.BytesIO()
    scipy.io.savemat(compressed, {"file_list": names}, do_compression=True)

    def read(data: bytes) -> None:
        for name in ("train_list.txt", "train_list.mat"):
            path = _write(folder / name, data)
            with contextlib.suppress(InputError):
                split_lists.SplitLists([path])

    return [buffer.getvalue(), compressed.getvalue(), b"a.jpg 1\nsub/c.jpg -1\n"], read


# Pictures


def pictures() -> list[bytes]:
    """One of each kind that conversion takes."""
    exif = Image.Exif()
    exif[0x0112] = 6
    found = [
        picture("JPEG", exif=exif),
        picture("JPEG", "L", progressive=True),
        picture("JPEG", "CMYK"),
        picture("PNG"),
        picture("PNG", "RGBA"),
        picture("PNG", "P", transparency=3),
        picture("PNG", "I;16"),
        picture("PNG", "1"),
        picture("GIF", "P"),
        picture("GIF", "P", save_all=True, append_images=[Image.new("P", (24, 16), 9)]),
        picture("BMP"),
        picture("BMP", "P"),
        picture("WEBP"),
        picture("WEBP", "RGBA", lossless=True),
        picture("TIFF", compression="tiff_lzw"),
        picture("TIFF", "I;16"),
        picture("TIFF", compression="jpeg"),
        picture("TIFF", "RGBA", compression="tiff_deflate"),
        picture("PPM"),
        picture("JPEG2000"),
        picture("AVIF"),
        _deep_png(),
    ]
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
        found.append(picture("HEIF"))
    return found


def _deep_png() -> bytes:
    import cv2

    values = (np.arange(24 * 16 * 3).reshape(16, 24, 3) * 50).astype(np.uint16)
    return cv2.imencode(".png", values)[1].tobytes()


PICTURE_WORDS = (
    *(b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"acTL", b"fdAT", b"iCCP", b"zTXt", b"eXIf"),
    *(b"\xff\xd8", b"\xff\xd9", b"\xff\xc0", b"\xff\xc2", b"\xff\xda", b"\xff\xdd", b"\xff\xe1"),
    *(b"\xff\xc4", b"\xff\xdb", b"\xff\xfe", b"Exif\0\0", b"II*\0", b"MM\0*", b"ftypheic", b"GIF8"),
    *(b"WEBP", b"VP8L", b"VP8X", b"ANIM", b"jP  ", b"ihdr", b"%!PS", b"\x21\xf9", b"\x21\xff"),
    *(struct.pack(order, value) for order in ("<I", ">I") for value in (65500, 9000, 1 << 28)),
)
_SETTINGS = (
    {},
    {"max_side": 8},
    {"equalize": True},
    {"denoise": "nlm"},
    {"sixteen_bit": "percentile"},
    {"verify": "header"},
)


# A few bytes may say that a picture has as many pixels as conversion takes, and time and memory are
# those of such a photograph: above so many pixels the header alone is read.
_MOST_PIXELS = 1 << 20


def _pictures(folder: pathlib.Path) -> tuple[list[bytes], Read]:
    images = _photographs(folder)
    makers = [_maker(images, **settings) for settings in _SETTINGS]
    image = LabeledImage("x", "cat", (Box(1, 1, 9, 9),))

    def read(data: bytes) -> None:
        path = _write(folder / "images" / "x", data)
        try:
            photograph = Photograph(data)
            pixels = math.prod(photograph.size)
            if pixels > _MOST_PIXELS:
                return
            # Non-local means take 10 s for a million pixels.
            settings = len(data) % len(makers) if pixels < 1 << 16 else 0
            makers[settings](image)
            if photograph.is_deep:
                with contextlib.suppress(Exception):  # as a conversion's search does
                    photograph.bits_used()
            encoded = photograph.encode()
        except ValueError:
            return
        assert 0 < encoded.height * encoded.width == pixels, path

    return pictures(), read


TARGETS = {
    "xml": Target(_xml, _annotations, words=_XML_WORDS),
    "yolo": Target(_yolo, words=_CLASS_WORDS),
    "csv": Target(_csv, _tables, words=(*_CLASS_WORDS, *(n.encode() for n in NAMES if n))),
    "class_maps": Target(_class_maps, _class_texts, words=_CLASS_WORDS),
    "labels_txt": Target(_labels_txt, _class_texts, words=_CLASS_WORDS),
    "split_lists": Target(_split_lists),
    "pictures": Target(_pictures, mend=mutations.png_mended, words=PICTURE_WORDS),
}
