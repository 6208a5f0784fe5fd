"""Lists of the photographs of each split: MATLAB's, as Stanford Dogs has them, and text."""

import unicodedata

import numpy as np
import pytest
import scipy.io
from PIL import Image

from datasets.findings import Finding
from datasets.schema import LabeledImage
from datasets.sources.split_lists import SplitLists
from foundation.errors import InputError
from runs.convert import convert
from runs.options import ConvertOptions


def _matlab(path, names):
    cells = np.empty((len(names), 1), object)
    cells[:, 0] = [np.array([name]) for name in names]
    scipy.io.savemat(path, {"file_list": cells, "labels": np.ones((len(names), 1))})
    return str(path)


def _splits(paths, photographs):
    items = list(SplitLists(paths).place(LabeledImage(path, "dog") for path in photographs))
    return (
        {item.path: item.split for item in items if isinstance(item, LabeledImage)},
        [str(item) for item in items if isinstance(item, Finding)],
    )


@pytest.mark.parametrize("written", ["beagle/{}.jpg", "beagle/{}", "Images/beagle/{}.jpg", "{}"])
def test_a_name_may_be_more_or_less_of_the_path(tmp_path, written):
    (tmp_path / "train.txt").write_text("".join(written.format(f"{i}a") + "\n" for i in range(3)))
    (tmp_path / "val.txt").write_text(written.format("3a") + " 1\n\n")
    lists = [str(tmp_path / name) for name in ("train.txt", "val.txt")]
    found, findings = _splits(lists, [f"beagle/{i}a.jpg" for i in range(4)])
    assert list(found.values()) == ["train"] * 3 + ["validation"]
    assert not findings


def test_what_only_one_side_knows_is_said(tmp_path):
    path = _matlab(tmp_path / "test_list.mat", ["n1-beagle/1.jpg", "n1-beagle/2.jpg"])
    found, findings = _splits([path], ["n1-beagle/1.jpg", "n2-pug/1.jpg"])
    assert found == {"n1-beagle/1.jpg": "test"}
    assert findings == [
        "n2-pug/1.jpg: in no list of --split_lists",
        "n1-beagle/2: in --split_lists, but no photograph",
    ]


def test_the_lists_win_over_the_source(tmp_path):
    (tmp_path / "test.txt").write_text("1.jpg\n")
    items = SplitLists([str(tmp_path / "test.txt")]).place(
        [LabeledImage("1.jpg", "a", (), "train")]
    )
    finding, image = items
    assert image.split == "test"
    assert "two splits: train and, by --split_lists, test" in finding.reason


@pytest.mark.parametrize(
    "name, content, problem",
    [
        ("names.txt", b"1.jpg\n", "its name does not tell the split"),
        ("train.txt", b"\n", "it names no photograph"),
        ("train.txt", b"\xff\xfe\xff", "not text in UTF-8"),
        ("train.mat", b"\0" * 200, "no MATLAB file"),
    ],
)
def test_a_list_that_is_none_is_named(tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"--split_lists=.*{name}: .*{problem}"):
        SplitLists([str(tmp_path / name)])


def test_a_photograph_in_two_lists_and_a_file_of_other_variables_are_refused(tmp_path):
    for name in ("train.txt", "test.txt"):
        (tmp_path / name).write_text("1.jpg\n")
    with pytest.raises(InputError, match=r"test.txt: 1 is in a list of train too"):
        SplitLists([str(tmp_path / "train.txt"), str(tmp_path / "test.txt")])
    scipy.io.savemat(tmp_path / "train_set.mat", {"trnid": [1, 2]})
    with pytest.raises(InputError, match="no variable file_list"):
        SplitLists([str(tmp_path / "train_set.mat")])


def test_a_conversion_takes_them(tmp_path):
    for i in range(8):
        path = tmp_path / "Images" / f"n{i % 2}-dog" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (30 * i, 0, 0)).save(path)
    lists = [
        _matlab(tmp_path / "train_list.mat", [f"n{i % 2}-dog/{i}.jpg" for i in range(4)]),
        _matlab(tmp_path / "test_list.mat", [f"n{i % 2}-dog/{i}.jpg" for i in range(4, 7)]),
    ]
    options = ConvertOptions.of(
        image_dir=str(tmp_path / "Images"), output_dir=str(tmp_path / "out"), split_lists=lists
    )
    made = convert(options, lambda line: None)
    assert {split: sum(made.counts[split].values()) for split in made.counts} == {
        "train": 4,
        "test": 3,
    }
    assert [str(item) for item in made.findings] == ["n1-dog/7.jpg: in no list of --split_lists"]


def test_accents_are_compared_in_one_form(tmp_path):
    (tmp_path / "train.txt").write_text(unicodedata.normalize("NFD", "é1.jpg\n"))
    (tmp_path / "test.txt").write_text(unicodedata.normalize("NFC", "é2\n"))
    names = [unicodedata.normalize("NFC", "é1.jpg"), unicodedata.normalize("NFD", "é2.jpg")]
    paths = [str(tmp_path / name) for name in ("train.txt", "test.txt")]
    assert _splits(paths, names) == (dict(zip(names, ["train", "test"], strict=True)), [])
