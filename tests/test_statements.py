"""Several annotations or rows for one photograph, in every source."""

import pytest
from PIL import Image

from datasets.findings import Effect, Finding
from datasets.schema import Box, LabeledImage
from datasets.sources import csv_table, statements, voc_xml
from datasets.sources.image_folder import ImageFolder
from datasets.sources.objects import LabeledObject
from datasets.sources.statements import Rest, Statement

_BOX, _NEAR, _FAR = Box(4, 4, 40, 40), Box(6, 4, 40, 38), Box(50, 50, 90, 90)


def _say(label, box=_BOX, *, by="", split="", size=None, path="0.jpg"):
    return Statement(path, (LabeledObject(label, box),), split, size, by)


def _gather(*items, rule="largest"):
    return list(statements.gather(items, rule))


def test_two_annotators_who_agree_make_one_example():
    for box in (_BOX, _NEAR, None):
        for rule in ("largest", "first", "each", "skip"):
            found = _gather(_say("weed", by="pat"), _say("weed", box, by="kim"), rule=rule)
            assert found == [LabeledImage("0.jpg", "weed", (_BOX,))]


@pytest.mark.parametrize("box", [_BOX, _NEAR, None])
def test_two_annotators_who_disagree_are_named_and_the_rule_decides(box):
    said = _say("weed", by="pat/0.xml"), _say("crop", box, by="kim/0.xml")
    finding, image = _gather(*said, rule="first")
    reason = "two labels: weed (pat/0.xml) and crop (kim/0.xml); weed (pat/0.xml) is taken by "
    assert finding == Finding("0.jpg", f"{reason}--multiple_objects=first", Effect.CORRECTED)
    assert image.label == "weed"
    finding, *images = _gather(*said, rule="each")
    assert [item.label for item in images] == ["weed", "crop"]
    assert finding.reason.endswith("; each is taken by --multiple_objects=each")
    assert [item.effect for item in _gather(*said, rule="skip")] == [
        Effect.CORRECTED,
        Effect.LEFT_OUT,
    ]


def test_objects_of_one_file_that_overlap_are_several():
    both = Statement("0.jpg", (LabeledObject("rider", _BOX), LabeledObject("horse", _NEAR)))
    assert len(_gather(both, rule="each")) == 2
    two = Statement("0.jpg", (LabeledObject("horse", _BOX), LabeledObject("horse", _NEAR)))
    (image,) = _gather(two)
    assert image.boxes == (_BOX, _NEAR)


def test_other_objects_come_together_in_pixels_of_one_size():
    said = (
        _say("cat", by="a", size=(100, 100)),
        _say("cat", Box(25, 25, 45, 45), by="b", size=(50, 50)),
    )
    (image,) = _gather(*said, rule="first")
    assert (image.boxes, image.size) == ((_BOX, _FAR), (100, 100))


def test_a_photograph_lands_in_one_split():
    said = (
        _say("cat"),
        _say("cat", split="test", by="t.xml"),
        _say("cat", split="train", by="u.xml"),
    )
    finding, image = _gather(*said)
    reason = "two splits: test (t.xml) and train (u.xml); test is taken"
    assert finding == Finding("0.jpg", reason)
    assert image.split == "test"


_XML = (
    "<annotation><filename>0.jpg</filename><object><name>{}</name><bndbox><xmin>4</xmin>"
    "<ymin>4</ymin><xmax>40</xmax><ymax>40</ymax></bndbox></object></annotation>"
)


def test_annotations_and_tables_behave_alike(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "0.jpg")
    folder = ImageFolder(str(tmp_path))
    rows = "filename,label,split,xmin,ymin,xmax,ymax\n"
    for split, label in (("test", "weed"), ("train", "crop")):
        (tmp_path / "xml" / split).mkdir(parents=True)
        (tmp_path / "xml" / split / "0.xml").write_text(_XML.format(label))
        rows += f"0.jpg,{label},{split},4,4,40,40\n"
    (tmp_path / "t.csv").write_text(rows)
    annotated = list(voc_xml.read(str(tmp_path / "xml"), folder, "largest"))
    tabled = list(csv_table.read([str(tmp_path / "t.csv")], folder, "largest"))
    assert annotated[-1] == tabled[-1] == LabeledImage("0.jpg", "weed", (_BOX,), "test")
    assert [item.kind for item in annotated[:-1]] == ["two splits", "two labels"]
    assert [item.kind for item in tabled[:-1]] == ["two splits", "two labels"]


def test_a_tile_that_names_the_picture_it_was_cut_from_is_itself(tmp_path):
    for name in ("big", "tile_0", "tile_1"):
        Image.new("RGB", (64, 48)).save(tmp_path / f"{name}.jpg")
    for i, label in enumerate(("cat", "dog")):
        content = _XML.format(label).replace("0.jpg", "big.jpg")
        (tmp_path / f"tile_{i}.xml").write_text(content)
    items = list(voc_xml.read(str(tmp_path), ImageFolder(str(tmp_path)), "largest"))
    reason = "photograph by the annotation's own name: tile_0.jpg, not big.jpg"
    assert items[0] == Finding("tile_0.xml", reason, Effect.CORRECTED)
    assert [(item.path, item.label) for item in items[2:]] == [
        ("tile_0.jpg", "cat"),
        ("tile_1.jpg", "dog"),
    ]


def _others(path):
    if path.startswith("far/"):
        return Finding(path, "no annotation", Effect.LEFT_OUT)
    return Statement(path, (LabeledObject("by folder", None),))


def test_photographs_that_nothing_names_are_counted_or_labelled_in_every_source(tmp_path):
    for path in ("images/0.jpg", "images/1.jpg", "images/far/2.jpg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48)).save(tmp_path / path)
    folder = ImageFolder(str(tmp_path / "images"))
    (tmp_path / "xml").mkdir()
    (tmp_path / "xml" / "0.xml").write_text(_XML.format("cat"))
    (tmp_path / "t.csv").write_text("filename,label,xmin,ymin,xmax,ymax\n0.jpg,cat,4,4,40,40\n")
    images = [LabeledImage("0.jpg", "cat", (_BOX,)), LabeledImage("1.jpg", "by folder")]
    annotated = list(voc_xml.read(str(tmp_path / "xml"), folder, "largest", Rest(folder, _others)))
    assert annotated == [Finding("far/2.jpg", "no annotation", Effect.LEFT_OUT), *images]
    said = []
    table = [str(tmp_path / "t.csv")]
    assert (
        list(csv_table.read(table, folder, "largest", said.append, Rest(folder, _others))) == images
    )
    assert said == ["No usable row names 1 photographs of --image_dir: they are left out."]


def test_files_without_a_label_in_common_are_named_wherever_their_boxes_are():
    said = _say("weed", by="pat/0.xml"), _say("crop", _FAR, by="kim/0.xml")
    finding, image = _gather(*said)
    assert finding.reason.startswith("two labels: weed (pat/0.xml) and crop (kim/0.xml)")
    assert image.label == "crop"
    assert finding.reason.endswith("; crop (kim/0.xml) is taken by --multiple_objects=largest")
    both = Statement("0.jpg", (LabeledObject("weed", _BOX), LabeledObject("crop", _FAR)))
    assert len(_gather(both)) == 1  # one file may name several kinds


def test_where_no_statement_names_a_split_those_of_the_folders_are_taken():
    paths = ("images/train/0.jpg", "images/val2017/1.jpg", "images/2.jpg")
    assert [i.split for i in _gather(*(_say("cat", path=path) for path in paths))] == [
        "train",
        "validation",
        "",
    ]
    # Of one folder alone, such as Kaggle's train/, nothing follows.
    assert [i.split for i in _gather(*(_say("cat", path=path) for path in paths[::2]))] == ["", ""]
    named = (_say("cat", path=paths[0], split="test"), _say("cat", path=paths[1]))
    assert [i.split for i in _gather(*named)] == ["test", ""]


def test_annotations_below_a_folder_of_all_have_its_splits(tmp_path):
    for split in ("train", "test"):
        folder = tmp_path / "set" / split
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / f"{split}.png")
        (folder / f"{split}.xml").write_text(
            "<annotation><object><name>cat</name></object></annotation>"
        )
    found = voc_xml.read(str(tmp_path), ImageFolder(str(tmp_path)), "largest")
    assert [image.split for image in found] == ["test", "train"]
