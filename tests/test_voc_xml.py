import time

import pytest
from PIL import Image

from datasets.findings import Effect, Finding
from datasets.schema import Box, LabeledImage
from datasets.sources import voc_xml
from datasets.sources.image_folder import ImageFolder

_CAT = (
    "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax>"
    "<ymax>40.5</ymax></bndbox></object>"
)
_DOG = (
    "<object><name>dog</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>95</xmax>"
    "<ymax>75</ymax></bndbox></object>"
)
_CAT_BOX, _DOG_BOX = Box(2, 1, 40.5, 30), Box(5, 5, 75, 95)


@pytest.fixture
def place(tmp_path):
    """Writes photographs and annotations, and reads the latter."""

    class Place:
        images = tmp_path / "images"
        annotations = tmp_path / "annotations"

        def photograph(self, path):
            (self.images / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (100, 80)).save(self.images / path, "JPEG")

        def annotation(self, path, content):
            file = self.annotations / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())

        def read(self, rule="largest"):
            folder = ImageFolder(str(self.images))
            return list(voc_xml.read(str(self.annotations), folder, rule))

    place = Place()
    place.images.mkdir()
    place.annotations.mkdir()
    return place


def _xml(filename, *objects, size="<size><width>100</width><height>80</height></size>"):
    return f"<annotation><filename>{filename}</filename>{size}{''.join(objects)}</annotation>"


def test_an_annotation_gives_label_box_and_size(place):
    place.photograph("a.jpg")
    place.annotation("a.xml", _xml("a.jpg", _CAT))
    assert place.read() == [LabeledImage("a.jpg", "cat", (_CAT_BOX,), size=(100, 80))]


def test_path_and_folder_are_never_believed(place):
    place.photograph("a.jpg")
    place.photograph("other/a.jpg")
    lies = "<folder>other</folder><path>/etc/passwd</path>"
    place.annotation("a.xml", _xml("a.jpg", lies, _CAT))
    assert place.read()[0].path == "a.jpg"


@pytest.mark.parametrize("filename", ["%s", "", "b.png", "wrong/place/b.jpg", "C:\\photos\\b.jpg"])
def test_a_photograph_is_found_by_the_annotations_own_name(place, filename):
    place.photograph("a.JPEG")
    place.annotation("a.xml", _xml(filename, _CAT))
    assert place.read()[0].path == "a.JPEG"


def test_stanford_dogs_files_without_extension_in_class_folders(place):
    for breed, number in (("n02085620-Chihuahua", "n02085620_10074"), ("n02-Pug", "n02_7")):
        place.photograph(f"{breed}/{number}.jpg")
    place.annotation("n02085620-Chihuahua/n02085620_10074", _xml("%s", _CAT))
    place.annotation("n02-Pug/n02_7", _xml("n02_7", _DOG))
    assert [item.path for item in place.read()] == [
        "n02-Pug/n02_7.jpg",
        "n02085620-Chihuahua/n02085620_10074.jpg",
    ]


def test_equal_names_in_several_folders_stay_apart(place):
    for folder, thing in (("x", _CAT), ("y", _DOG)):
        place.photograph(f"{folder}/1.jpg")
        place.annotation(f"{folder}/1.xml", _xml("1.jpg", thing))
    found = {item.path: item.label for item in place.read()}
    assert found == {"x/1.jpg": "cat", "y/1.jpg": "dog"}


def test_folders_named_as_splits_are_the_splits(place):
    for folder in ("train", "valid", "test", "more"):
        place.photograph(f"{folder}/{folder}.jpg")
        place.annotation(f"{folder}/{folder}.xml", _xml(f"{folder}.jpg", _CAT))
    splits = {item.path.split("/")[0]: item.split for item in place.read()}
    assert splits == {"train": "train", "valid": "validation", "test": "test", "more": ""}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("first", [("cat", (_CAT_BOX,))]),
        ("largest", [("dog", (_DOG_BOX,))]),
        ("each", [("cat", (_CAT_BOX,)), ("dog", (_DOG_BOX,))]),
    ],
)
def test_the_rule_for_several_objects(place, rule, expected):
    place.photograph("a.jpg")
    place.annotation("a.xml", _xml("a.jpg", _CAT, _DOG))
    assert [(item.label, item.boxes) for item in place.read(rule)] == expected


def test_skip_leaves_photographs_with_several_objects_out_as_asked(place):
    place.photograph("a.jpg")
    place.annotation("a.xml", _xml("a.jpg", _CAT, _DOG))
    (item,) = place.read("skip")
    assert item.effect is Effect.LEFT_OUT and item.file == "a.jpg"
    assert item.reason == "several objects: 2, left out by --multiple_objects=skip"


def test_boxes_of_the_same_class_come_along_with_the_chosen_first(place):
    place.photograph("a.jpg")
    small = _DOG.replace("95", "20")
    place.annotation("a.xml", _xml("a.jpg", small, _CAT, _DOG))
    (item,) = place.read("largest")
    assert item.boxes == (_DOG_BOX, Box(5, 5, 75, 20))


def test_parts_of_an_object_are_not_objects(place):
    place.photograph("a.jpg")
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
    place.annotation("a.xml", _xml("a.jpg", _CAT.replace("</object>", part)))
    assert [(item.label, item.boxes) for item in place.read()] == [("cat", (_CAT_BOX,))]


def test_an_object_without_box_still_names_the_label(place):
    place.photograph("a.jpg")
    place.annotation("a.xml", _xml("a.jpg", "<object><name> big  cat\n</name></object>"))
    changed, image = place.read()
    assert (image.label, image.boxes) == ("big cat", ())
    assert changed.reason == "label changed: 'big  cat' is the class 'big cat'"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("<xmax>30<", "<xmax>1<", "box: xmin 1 is not less than xmax 1 (object 1)"),
        ("<ymax>40.5<", "<ymax>-3<", "box: ymin 2 is not less than ymax -3 (object 1)"),
        ("<xmin>1<", "<xmin>nan<", "box: xmin is 'nan' (object 1)"),
        ("<xmin>1<", "<xmin>1e999<", "box: xmin is '1e999' (object 1)"),
        ("<ymin>2<", "<ymin>two<", "box: ymin is 'two', not a number (object 1)"),
        ("<xmax>30</xmax>", "", "box: xmax is '', not a number (object 1)"),
    ],
)
def test_an_unusable_box_goes_and_the_label_stays(place, old, new, reason):
    place.photograph("a.jpg")
    place.photograph("b.jpg")
    assert old in _CAT
    place.annotation("a.xml", _xml("a.jpg", _CAT.replace(old, new)))
    place.annotation("b.xml", _xml("b.jpg", _CAT.replace(old, new), _DOG))
    finding_a, finding_b, cat, dog = place.read()
    assert finding_a == Finding("a.xml", reason, Effect.CORRECTED)
    assert finding_b == Finding("b.xml", reason, Effect.CORRECTED)
    assert (cat.path, cat.label, cat.boxes) == ("a.jpg", "cat", ())
    assert (dog.path, dog.label, dog.boxes) == ("b.jpg", "dog", (_DOG_BOX,))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [("<name>cat<", "<name> <", "no label: an object without name (object 1)")],
)
def test_an_impossible_object_is_rejected_and_the_others_stay(place, old, new, reason):
    place.photograph("a.jpg")
    place.photograph("b.jpg")
    assert old in _CAT
    place.annotation("a.xml", _xml("a.jpg", _CAT.replace(old, new)))
    place.annotation("b.xml", _xml("b.jpg", _CAT.replace(old, new), _DOG))
    rejected_a, rejected_b, dog = place.read()
    assert rejected_a == Finding("a.xml", reason)
    assert rejected_b == Finding("b.xml", reason)
    assert (dog.path, dog.label) == ("b.jpg", "dog")


_ENTITIES = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
_HOSTILE = {
    "external entity": (
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        "<annotation><filename>a.jpg</filename><object><name>&x;</name></object></annotation>",
        "hostile annotation",
    ),
    "entity expansion": (
        f'<!DOCTYPE a [<!ENTITY e0 "ha">{_ENTITIES}]>'
        "<annotation><object><name>&e9;</name></object></annotation>",
        "hostile annotation|malformed annotation",
    ),
    "entity expansion in an attribute": (
        f'<!DOCTYPE a [<!ENTITY e0 "ha">{_ENTITIES}]><annotation x="&e9;"/>',
        "hostile annotation|malformed annotation",
    ),
    "external DTD": (
        '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><annotation/>',
        "hostile annotation",
    ),
    "in another encoding": (
        ('<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a []><annotation/>').encode("utf-16"),
        "hostile annotation",
    ),
    "depth": ("<annotation>" + "<a>" * 100_000, "malformed annotation"),
    "empty": ("", "empty annotation"),
    "blank": (" \n", "empty annotation"),
    "cut off": (_xml("a.jpg", _CAT)[:-30], "malformed annotation"),
    "not XML": ("hello", "malformed annotation"),
    "binary": (bytes(range(256)), "malformed annotation"),
    "another XML": ("<html/>", "malformed annotation: its root is <html>, not <annotation>"),
    "no object": (_xml("b.jpg"), "no object in the annotation"),
    "too large": (b"<annotation>" + b" " * (5 << 20), "annotation too large"),
    "leads out": (_xml("../a.jpg", _CAT), "leaves --image_dir: ../a.jpg"),
    "absolute": (_xml("/etc/passwd", _CAT), "leaves --image_dir"),
    "no photograph": (_xml("gone.jpg", _CAT), "missing photograph: gone.jpg"),
}


@pytest.mark.parametrize(("content", "reason"), _HOSTILE.values(), ids=_HOSTILE)
def test_a_bad_annotation_is_rejected_quickly_and_the_others_are_read(place, content, reason):
    place.photograph("b.jpg")
    place.annotation("bad.xml", content)
    place.annotation("b.xml", _xml("b.jpg", _CAT))
    start = time.monotonic()
    bad, good = place.read()
    assert time.monotonic() - start < 2
    assert good.path == "b.jpg"
    assert bad.file == "bad.xml" and bad.is_error
    assert any(bad.reason.startswith(part) for part in reason.split("|")), bad.reason
    assert "root:" not in bad.reason  # of /etc/passwd


def test_what_is_not_an_annotation_by_its_name_is_passed_over(place):
    place.photograph("a.jpg")
    place.annotation("a.xml", _xml("a.jpg", _CAT))
    place.annotation("notes.txt", "hello")
    place.annotation(".DS_Store", "hello")
    place.annotation("__MACOSX/a.xml", "hello")
    assert len(place.read()) == 1


def test_no_annotations_at_all_is_an_error(place):
    with pytest.raises(ValueError, match=r"annotations: it has no .xml files"):
        place.read()
    place.annotation("instances.json", "{}")
    with pytest.raises(ValueError, match="instances.json may be COCO's, which is not read: export"):
        place.read()
    with pytest.raises(ValueError, match="--annotations_dir=gone: there is no such folder"):
        list(voc_xml.read("gone", ImageFolder(str(place.images)), "first"))


def test_different_spellings_of_a_class_are_told_once_each(place):
    for name, label in (("a", "a b"), ("b", "a\tb"), ("c", "a\tb")):
        place.photograph(f"{name}.jpg")
        thing = f"<object><name> {label} </name></object>"
        place.annotation(f"{name}.xml", _xml(f"{name}.jpg", thing))
    reason = r"labels joined: 'a b' and 'a\tb' are one class, a b"
    findings = [item for item in place.read() if isinstance(item, Finding)]
    assert findings == [Finding("b.xml", reason, Effect.CORRECTED)]
