import os

import pytest
from PIL import Image

from datasets.findings import Effect, Finding
from datasets.schema import Box, LabeledImage
from datasets.sources import csv_table, statements
from datasets.sources.image_folder import ImageFolder


@pytest.fixture
def read(tmp_path):
    """Writes a table beside the photographs a.jpg, b.jpg, sub/c.jpg, and reads it."""
    for path in ("a.jpg", "b.jpg", "sub/c.jpg"):
        (tmp_path / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 80)).save(tmp_path / "images" / path)

    def read(content, rule="largest"):
        table = tmp_path / "table.csv"
        table.write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(csv_table.read([str(table)], ImageFolder(str(tmp_path / "images")), rule))

    return read


_CAT_DOG = [LabeledImage("a.jpg", "cat"), LabeledImage("b.jpg", "dog")]


@pytest.mark.parametrize(
    "content",
    [
        "filename,label\na.jpg,cat\nb.jpg,dog\n",
        "label;filename\ncat;a.jpg\ndog;b.jpg\n",
        "Filename\tnote\tClass\na.jpg\tx, y; z\tcat\nb.jpg\t\tdog\n",
        "a.jpg,cat\r\nb.jpg,dog",
        "\n\na.jpg;cat\n\n  \nb.jpg;dog\n",
        '\ufefffilename,label\n a.jpg , cat \n"b.jpg","dog"\n',
        "id,breed\na,cat\nb,dog\n",
        "image_path,label\nimages/a.jpg,cat\nimages/b.jpg,dog\n",
        "filename,label\na.jpg,cat\nb.jpg,dog\na.jpg,cat\n",
        "filename,label\na.jpg,cat,\nb.jpg,dog,,\n",
        "sep=;\nfilename;label\na.jpg;cat\nb.jpg;dog\n",
        "sep=,\r\na.jpg,cat\r\nb.jpg,dog\r\n",
        "sep=\\t\nfilename\tlabel\na.jpg\tcat\nb.jpg\tdog\n",
        "SEP=tab\nfilename\tlabel\na.jpg\tcat\nb.jpg\tdog\n",
        "a.jpg|cat\nb.jpg|dog\n",
        "Photo ID,Species\na,cat\nb.jpg,dog\n",
        "Image File;Dog Breed\na.jpg;cat\nb.jpg;dog\n",
        "imageId,Class Label\na,cat\nb,dog\n",
        "name,LABEL\na.jpg,cat\nb.jpg,dog\n",
        "Étiquette,Photo name\ncat,a.jpg\ndog,b.jpg\n",
        '"sep=;"\nfilename;label;note\na.jpg;cat;one, two\nb.jpg;dog;\n',
    ],
)
def test_header_or_none_and_any_separator(read, content):
    assert read(content) == _CAT_DOG


@pytest.mark.parametrize(
    "content",
    [
        "filename,label,split\na.jpg,cat,train\nb.jpg,dog,valid\nsub/c.jpg,dog,\n",
        "a.jpg,cat,train\nb.jpg,dog,VAL\nsub/c.jpg,dog,\n",
    ],
)
def test_splits(read, content):
    assert [item.split for item in read(content)] == ["train", "validation", ""]


@pytest.mark.parametrize(
    "content",
    [
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,200,160,cat,1,2,3.5,4\n",
        "a.jpg,cat,1,2,3.5,4\n",
        "a.jpg,cat,train,1,2,3.5,4\n",
    ],
)
def test_boxes(read, content):
    (item,) = read(content)
    assert item.boxes == (Box(ymin=2, xmin=1, ymax=4, xmax=3.5),)
    assert item.size == ((200, 160) if "width" in content else None)


def test_a_photograph_in_several_rows_has_several_objects(read):
    content = (
        "filename,label,xmin,ymin,xmax,ymax\n"
        "a.jpg,cat,0,0,10,10\nb.jpg,cow,,,,\na.jpg,dog,0,0,50,50\n"
    )
    assert [(i.path, i.label) for i in read(content)] == [("a.jpg", "dog"), ("b.jpg", "cow")]
    assert [i.label for i in read(content, "first")] == ["cat", "cow"]
    assert [i.label for i in read(content, "each")] == ["cat", "dog", "cow"]
    skipped, cow = read(content, "skip")
    assert skipped.effect is Effect.LEFT_OUT and cow.label == "cow"


@pytest.mark.parametrize(
    ("row", "file", "reason"),
    [
        ("gone.jpg,cat", "gone.jpg", "missing photograph: gone.jpg"),
        ("../x.jpg,cat", "../x.jpg", "leaves --image_dir: ../x.jpg, and none in it is called so"),
        ("b.jpg,", "b.jpg", "no label: the cell is empty"),
        (",cat", "table.csv line 3", "no filename"),
        ("b.jpg", "table.csv line 3", "malformed row: 1 columns where 2 are needed"),
        (
            "b.jpg,spaniel, cocker",
            "table.csv line 3",
            "malformed row: 3 columns where the first row has 2; a cell with a comma in it is "
            "written in quotes",
        ),
    ],
)
def test_a_bad_row_is_rejected_and_the_others_stay(read, row, file, reason):
    bad, good = read(f"filename,label\na.jpg,cat\n{row}\n")
    assert bad == Finding(file, reason)
    assert good == LabeledImage("a.jpg", "cat")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("b.jpg,cat,elsewhere,,,,", "unknown split: elsewhere"),
        ("a.jpg,cat,test,1,2,3,4", "two splits: train and test"),
    ],
)
def test_bad_splits_are_rejected(read, row, reason):
    header = "filename,label,split,xmin,ymin,xmax,ymax\n"
    bad, good = read(f"{header}a.jpg,cat,train,1,2,3,4\n{row}\n")
    assert bad.reason.startswith(reason) and bad.is_error
    assert (good.path, good.split) == ("a.jpg", "train")


@pytest.mark.parametrize(
    ("sides", "reason"),
    [
        ("9,1,3,4", "box: xmin 9 is not less than xmax 3"),
        ("1,1,x,4", "box: xmax is 'x', not a number"),
        ("1,1,,4", "box: xmax is '', not a number"),
        ("nan,1,3,4", "box: xmin is 'nan'"),
    ],
)
def test_a_photograph_with_an_unusable_box_keeps_its_label(read, sides, reason):
    header = "filename,label,xmin,ymin,xmax,ymax\n"
    bad, *images = read(f"{header}a.jpg,cat,1,2,3,4\nb.jpg,dog,{sides}\n")
    assert bad == Finding("b.jpg", reason, Effect.CORRECTED)
    assert images == [
        LabeledImage("a.jpg", "cat", (Box(2, 1, 4, 3),)),
        LabeledImage("b.jpg", "dog"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("filename\na.jpg\n", "has one column; it needs filename and label"),
        ("filename,size\na.jpg,7\n", "has the columns filename, size; it needs one called label"),
        ("Bild,Datum,Art\na,3.5.,cat\n", "row .Bild, Datum, Art. is neither filename, label"),
        ("a.jpg,cat,1,2\n", "has 4 columns and no header that names filename and label"),
        ("filename,label\na.jpg,K\xe4fer\n".encode("latin-1"), "is not in UTF-8"),
        ("filename,label\na.jpg,cat\n".encode("utf-16"), "is in UTF-16. Save it in UTF-8"),
        ('filename,label\n"a.jpg,cat\n', "line 2"),
    ],
)
def test_a_table_that_is_not_understood_is_an_error(read, content, message):
    with pytest.raises(ValueError, match=f"--csv_file=.*table.csv.*{message}"):
        read(content)


@pytest.mark.parametrize(
    "content",
    [
        "filename,cat,dog\na.jpg,1,0\nb.jpg,0,1\n",
        "image,cat,dog,split\na,1.0,0.0,\nb,0.0,1.0,\n",
        "UNASSIGNED,gs://bucket/set/a.jpg,cat\n,b.jpg,dog\n",
    ],
)
def test_a_column_a_class_and_automls_order(read, content):
    assert [item for item in read(content) if isinstance(item, LabeledImage)] == _CAT_DOG


def test_columns_of_classes_may_end_in_a_word_for_labels(read):
    items = read("image,cat class,dog class\na,1,0\nb,0,1\n")
    assert [item.label for item in items] == ["cat class", "dog class"]


def test_automls_splits_and_boxes_in_fractions(read):
    content = "TRAIN,a.jpg,cat,0.1,0.2,,,0.5,0.6,,\nVALIDATION,b.jpg,dog,0.1,0.2,,,1.0,1.0,,\n"
    cat, dog = read(content)
    assert cat == LabeledImage("a.jpg", "cat", (Box(0.2, 0.1, 0.6, 0.5),), "train")
    assert (dog.split, dog.boxes) == ("validation", (Box(0.2, 0.1, 1, 1),))


def test_rows_of_several_or_no_classes(read):
    header = "filename,cat,dog\na.jpg,1,0\n"
    cat, finding, both = read(f"{header}b.jpg,1,1\n")
    assert finding == Finding(
        "b.jpg",
        "two labels: cat and dog; cat is taken by --multiple_objects=largest",
        Effect.CORRECTED,
    )
    assert (both.path, both.label) == ("b.jpg", "cat")
    for row, reason in (
        ("b.jpg,0,0", "no label: the cell is empty"),
        ("b.jpg,0.3,0.7", "malformed row: the column cat holds neither 0 nor 1"),
        ("b.jpg,1", "malformed row: 2 columns where 3 are needed"),
    ):
        bad, cat = read(f"{header}{row}\n")
        assert bad.reason == reason and bad.is_error and cat.path == "a.jpg"
    with pytest.raises(ValueError, match="it has the columns filename, size, colour; it needs one"):
        read("filename,size,colour\na.jpg,7,red\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("filename,label\na.jpg,cat\n", ""),
        (",Filename,Label,note\n0,a.jpg,cat,x\n", "not read: note (1)"),
        ("filename,label,phase\na.jpg,cat,test\n", "the column phase is read as split"),
        ("cat,a.jpg\n", "it has no header, and is read as label, filename"),
        ("a.jpg,cat\n", "it has no header, and is read as filename, label"),
        ("a.jpg,cat,test\n", "it has no header, and is read as filename, label, split"),
        ("TEST,a.jpg,cat\n", "it has no header, and is read as split, filename, label"),
        (
            "TEST,a.jpg,cat,black\n",
            "it has no header, and is read as split, filename, label; not read: the columns of "
            "black (1)",
        ),
        (
            "id,breed\na,cat\n",
            "the column id is read as filename; the column breed is read as label",
        ),
        ("filename,label,class\na.jpg,cat,3\n", "not read: class (1)"),
        ("filename,cat,dog\na.jpg,1,0\n", "each class has a column of 0 and 1: cat, dog (2)"),
    ],
)
def test_how_the_columns_were_understood_is_said(tmp_path, content, said):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg")
    (tmp_path / "t.csv").write_text(content)
    lines, path = [], str(tmp_path / "t.csv")
    list(csv_table.read([path], ImageFolder(str(tmp_path)), "first", lines.append))
    assert lines == ([f"{path}: {said}."] if said else [])


def test_columns_by_hand(tmp_path):
    for name in "ab":
        Image.new("RGB", (9, 9)).save(tmp_path / f"{name}.jpg")
    path, lines = tmp_path / "t.csv", []

    def read(content, *chosen):
        path.write_text(content)
        folder = ImageFolder(str(tmp_path))
        return list(csv_table.read([str(path)], folder, "first", lines.append, chosen=chosen))

    headed = "Tag,Bild,Art\n7,a.jpg,cat\n8,b.jpg,dog\n"
    assert read(headed, "filename:Bild", "label: art") == _CAT_DOG
    assert read("7,cat,a.jpg\n8,dog,b.jpg\n", "filename:3", "label:2") == _CAT_DOG
    assert read("filename,x,y\na.jpg,1,cat\nb.jpg,0,dog\n", "label:3") == _CAT_DOG
    with pytest.raises(ValueError, match="--csv_columns=label:Kind: .* has no such column, but Ta"):
        read(headed, "filename:Bild", "label:Kind")
    with pytest.raises(ValueError, match="--csv_columns=kind:Art: write MEANING:HEADING"):
        read(headed, "kind:Art")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("a.jpg,cat\nb.jpg,dog\n", "looks like a header: Bild, Art"),
        ("a.jpg,cat\ngone.jpg,dog\n", "missing photograph: Bild"),
        ("", "missing photograph: Bild"),
    ],
)
def test_a_first_row_that_alone_names_no_photograph_looks_like_a_header(tmp_path, rows, reason):
    for name in "ab":
        Image.new("RGB", (9, 9)).save(tmp_path / f"{name}.jpg")
    (tmp_path / "t.csv").write_text(f"Bild,Art\n{rows}")
    lines, folder = [], ImageFolder(str(tmp_path))
    items = list(csv_table.read([str(tmp_path / "t.csv")], folder, "first", lines.append))
    assert Finding("Bild", reason) in items
    is_said = "--csv_columns=filename:HEADING,label:HEADING" in lines[-1]
    assert is_said == reason.startswith("looks")


def test_photographs_of_refused_rows_are_not_told_as_in_no_row(tmp_path):
    for name in "abc":
        Image.new("RGB", (9, 9)).save(tmp_path / f"{name}.jpg")
    (tmp_path / "t.csv").write_text("filename,label,split\na.jpg,cat,\nb.jpg,,\n")
    folder, lines = ImageFolder(str(tmp_path)), []
    rest = statements.Rest(folder, lambda path: Finding(path, statements.UNNAMED))
    items = list(csv_table.read([str(tmp_path / "t.csv")], folder, "first", lines.append, rest))
    assert items[0] == Finding("b.jpg", "no label: the cell is empty")
    assert lines == ["No usable row names 1 photographs of --image_dir: they are left out."]
    rest = statements.Rest(folder, lambda path: Finding(path, f"{statements.UNNAMED}: its folder"))
    list(csv_table.read([str(tmp_path / "t.csv")], folder, "first", lines.append, rest))
    assert lines[1].startswith(lines[0] + " --unannotated=folder")


def test_several_tables_are_each_a_split_by_its_name(tmp_path):
    for name in "abc":
        Image.new("RGB", (9, 9)).save(tmp_path / f"{name}.jpg")
    rows = {"train": "a.jpg,cat\nb.jpg,dog\n", "labels-val": "c.jpg,cat\nb.jpg,dog\n"}
    for name, content in rows.items():
        (tmp_path / f"{name}.csv").write_text(f"filename,label\n{content}")
    paths = [str(tmp_path / f"{name}.csv") for name in rows]
    first, finding, *images = csv_table.read(paths, ImageFolder(str(tmp_path)), "first")
    reason = "two splits: train (train.csv) and validation (labels-val.csv); train is taken"
    assert finding == Finding("b.jpg", reason)
    assert [(i.path, i.split) for i in (first, *images)] == [
        ("a.jpg", "train"),
        ("b.jpg", "train"),
        ("c.jpg", "validation"),
    ]


def test_what_is_written_is_read_again(read, tmp_path):
    images = [
        LabeledImage("a.jpg", "big, cat", (Box(1.25, 2, 3, 4), Box(5, 6, 7, 8)), "train", (9, 8)),
        LabeledImage("b.jpg", "Käfer", (), "train"),
        LabeledImage("sub/c.jpg", '"dog"', (Box(1, 2, 3, 4),), "test", (100, 80)),
    ]
    path = tmp_path / "new" / "pairs.csv"
    lost = Finding("x.xml", "empty annotation")
    skipped = Finding("caf\udce9.jpg", "several objects: 2\nlines", Effect.LEFT_OUT)
    csv_table.write(str(path), [images[0], lost, *images[1:], skipped])
    assert read(path.read_bytes(), "first") == images
    files = ["pairs.csv", "pairs.csv.rejected.csv"]
    assert sorted(file.name for file in path.parent.iterdir()) == files
    folder = ImageFolder(str(tmp_path / "images"))
    assert list(csv_table.read([str(path)], folder, "first")) == [lost, skipped, *images]
    csv_table.write(str(path), images)
    assert [file.name for file in path.parent.iterdir()] == ["pairs.csv"]
    (tmp_path / "new" / "pairs.csv.rejected.csv").write_text("else\n")
    with pytest.raises(ValueError, match="rejected.csv is not as convert_data.py wrote it"):
        list(csv_table.read([str(path)], folder, "first"))


def test_a_file_name_need_not_be_text_and_a_label_must(read, tmp_path):
    image = LabeledImage(os.fsdecode(b"caf\xe9.jpg"), "Käfer")
    assert read("a.jpg,cat\n")
    (tmp_path / "images" / "a.jpg").rename(tmp_path / "images" / image.path)
    csv_table.write(str(tmp_path / "table.csv"), [image])
    assert read((tmp_path / "table.csv").read_bytes()) == [image]
    with pytest.raises(ValueError, match="table.csv: line 2 is not in UTF-8. Save it so."):
        read(b"b.jpg,dog\nb.jpg,k\xe4fer\n")


def test_rows_of_a_photograph_may_be_apart_and_must_agree(read):
    items = read("a.jpg,cat,train\nb.jpg,cat,train\na.jpg,dog,train\na.jpg,dog,test\n")
    two_labels, two_splits, *images = items
    assert two_labels == Finding(
        "a.jpg",
        "two labels: cat and dog; cat is taken by --multiple_objects=largest",
        Effect.CORRECTED,
    )
    assert two_splits == Finding("a.jpg", "two splits: train and test; train is taken")
    assert [(item.path, item.label) for item in images] == [("a.jpg", "cat"), ("b.jpg", "cat")]


def test_a_table_appears_whole_or_not_at_all(tmp_path):
    def broken():
        yield LabeledImage("a.jpg", "cat")
        yield Finding("x.xml", "empty annotation")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        csv_table.write(str(tmp_path / "pairs.csv"), broken())
    assert not (tmp_path / "pairs.csv").exists()


def test_different_spellings_of_a_class_are_told_once_each(read):
    rows = "a.jpg,a b\na.jpg, a b \nb.jpg,a  b\nb.jpg,a  b\nsub/c.jpg,a\u00a0b\n"
    joined = "labels joined: 'a b' and {} are one class, a b"
    assert [item for item in read(f"filename,label\n{rows}") if isinstance(item, Finding)] == [
        Finding("b.jpg", joined.format("'a  b'"), Effect.CORRECTED),
        Finding("sub/c.jpg", joined.format(r"'a\xa0b'"), Effect.CORRECTED),
    ]
    found = read('filename,label\na.jpg,\u00e9\nb.jpg,e\u0301\nsub/c.jpg,"line\nbreak"\n')
    assert [item.reason for item in found if isinstance(item, Finding)] == [
        r"labels joined: '\xe9' and 'e\u0301' are one class, " + "\u00e9",
        r"label changed: 'line\nbreak' is the class 'line break'",
    ]
    assert [item.label for item in found if isinstance(item, LabeledImage)] == [
        *("\u00e9", "\u00e9"),
        "line break",
    ]
    # One form of accents alone is what it seems to be, and so is a label with blanks around it.
    assert read("filename,label\na.jpg, e\u0301 \n") == [LabeledImage("a.jpg", "\u00e9")]


def test_two_columns_that_are_one_class_are_refused(read):
    with pytest.raises(ValueError, match="its columns 'a b' and 'a  b' are one class, a b"):
        read("filename,a b,a  b\na.jpg,1,0\nb.jpg,0,1\n")
