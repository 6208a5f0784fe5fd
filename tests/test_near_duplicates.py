"""Pictures that are almost the same, across splits or labels."""

import csv

import numpy as np
import pytest
from PIL import Image

from datasets import splits
from datasets.conversion import near_duplicates
from datasets.schema import LabeledImage
from datasets.sources.image_folder import ImageFolder
from foundation.errors import InputError
from tests.conftest import run_script


def brute_force(hashes, distance):
    found = []
    for i, one in enumerate(hashes.tolist()):
        for j in range(i + 1, len(hashes)):
            bits = (one ^ int(hashes[j])).bit_count()
            if bits <= distance:
                found.append((i, j, bits))
    return found


def test_all_pairs_within_three_bits_are_found():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 300, np.uint64)
    for i in range(100):  # neighbours in 0 to 5 bits
        bits = rng.choice(64, i % 6, replace=False)
        flips = sum(1 << int(bit) for bit in bits)
        hashes[200 + i] = hashes[i] ^ np.uint64(flips)
    expected = brute_force(hashes, 3)
    assert len(expected) >= 60
    assert near_duplicates.pairs(hashes) == expected


def test_a_pair_among_a_hundred_thousand_is_found():
    hashes = np.random.default_rng(1).integers(0, 2**64, 100_000, np.uint64)
    hashes[5] = hashes[99_999] ^ np.uint64(1 << 40)
    assert (5, 99_999, 1) in near_duplicates.pairs(hashes)


def test_two_of_a_kind_are_no_pair():
    hashes = np.array([7, 7, 7, 6], np.uint64)
    expected = [(0, 2, 0), (1, 2, 0), (2, 3, 1)]
    assert near_duplicates.pairs(hashes, kinds=np.array([0, 0, 1, 0])) == expected


def test_who_is_kept():
    def pair(labels, where, kept):
        images = [LabeledImage(f"{i}.jpg", label) for i, label in enumerate(labels)]
        return near_duplicates.Pair(*images, where, 1, kept)

    same = pair("aa", (splits.TRAIN, splits.VALIDATION), "1.jpg")
    other = pair("ab", (splits.TRAIN, splits.TRAIN), "")
    assert set(near_duplicates.dropped([same])) == {"0.jpg"}
    assert set(near_duplicates.dropped([other])) == {"0.jpg", "1.jpg"}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Two classes and two splits; three pictures come twice, a little changed."""
    pytest.importorskip("imagehash")
    folder = tmp_path_factory.mktemp("near")
    rng = np.random.default_rng(0)

    def picture():
        small = rng.integers(0, 255, (6, 6, 3)).astype(np.uint8)
        return Image.fromarray(small).resize((120, 120), Image.Resampling.BICUBIC)

    for split in ("train", "validation"):
        for label in "ab":
            place = folder / split / label
            place.mkdir(parents=True)
            for i in range(6):
                picture().save(place / f"{i}.jpg")
    one = picture()
    one.save(folder / "train/a/leaked.jpg")
    one.resize((100, 100)).save(folder / "validation/a/leaked.jpg", quality=60)
    two = picture()
    two.save(folder / "train/a/doubtful.jpg")
    two.resize((90, 90)).save(folder / "train/b/doubtful.jpg")
    three = picture()
    three.save(folder / "train/b/twice.jpg")
    three.resize((80, 80)).save(folder / "train/b/twice_small.jpg")  # no harm in that
    return folder


@pytest.mark.parametrize("rule", ["report", "drop"])
def test_by_the_command_line(photographs, tmp_path, rule):
    flags = (f"--image_dir={photographs}", f"--output_dir={tmp_path}/out", "--num_shards=1")
    result = run_script("convert_data.py", *flags, f"--near_duplicates={rule}")
    assert result.returncode == 0, result.stderr
    assert "Near duplicates across splits or labels: 2 pairs" in result.stdout
    with open(tmp_path / "out" / "near_duplicates.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["other_file"]) for row in rows] == [
        ("train/a/doubtful.jpg", "train/b/doubtful.jpg"),
        ("train/a/leaked.jpg", "validation/a/leaked.jpg"),
    ]
    assert rows[1]["split"] == "train" and rows[1]["other_split"] == "validation"
    left = {"report": 30, "drop": 27}[rule]
    assert f"out: {left} examples of 2 classes" in result.stdout


def test_thousands_of_equal_pictures_are_a_few_thousand_pairs(monkeypatch, tmp_path):
    images = [LabeledImage(f"{i}.jpg", "ab"[i % 2]) for i in range(4000)]
    hashes = [(5, i.to_bytes(32, "big")) for i in range(4000)]
    monkeypatch.setattr(near_duplicates, "_hashes", lambda *_: hashes)
    choice = splits.Choice({""}, 0.0, 0.0)
    found = near_duplicates.find(images, ImageFolder(str(tmp_path)), choice, 1)
    assert len(found) == 3999
    assert set(near_duplicates.dropped(found)) == {image.path for image in images}


def test_labels_of_one_photograph_are_no_contradiction(monkeypatch, tmp_path):
    images = [LabeledImage("0.jpg", "dog"), LabeledImage("1.jpg", "dog")]
    images.insert(1, LabeledImage("0.jpg", "cat"))
    hashes = [(7, bytes([i]) * 32) for i in range(2)]
    monkeypatch.setattr(near_duplicates, "_hashes", lambda *_: hashes)
    choice = splits.Choice({""}, 0.0, 0.0)
    for order in (images, images[::-1]):
        assert near_duplicates.find(order, ImageFolder(str(tmp_path)), choice, 1) == []
    images.append(LabeledImage("1.jpg", "bird"))
    images.remove(LabeledImage("1.jpg", "dog"))
    assert len(near_duplicates.find(images, ImageFolder(str(tmp_path)), choice, 1)) == 1


def test_exact_copies_go_with_what_they_are_copies_of(monkeypatch, tmp_path):
    places = [("train", 1), ("train", 1), ("test", 2)]
    images = [LabeledImage(f"{i}.jpg", "a", split=split) for i, (split, _) in enumerate(places)]
    hashes = [(7, bytes([content]) * 32) for _, content in places]
    monkeypatch.setattr(near_duplicates, "_hashes", lambda *_: hashes)
    choice = splits.Choice({"train", "test"})
    found = near_duplicates.find(images, ImageFolder(str(tmp_path)), choice, 1)
    assert set(near_duplicates.dropped(found)) == {"0.jpg", "1.jpg"}


def test_a_turned_phone_picture_is_the_same(tmp_path):
    rng = np.random.default_rng(3)
    picture = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8))
    picture = picture.resize((160, 120), Image.Resampling.BICUBIC)
    for label in "ab":
        (tmp_path / label).mkdir()
    picture.save(tmp_path / "a/upright.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90 degrees clockwise
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b/turned.jpg", exif=exif)
    images = [LabeledImage("a/upright.jpg", "a"), LabeledImage("b/turned.jpg", "b")]
    choice = splits.Choice({""}, 0.0, 0.0)
    assert len(near_duplicates.find(images, ImageFolder(str(tmp_path)), choice, 1)) == 1


def test_one_file_has_no_splits_to_tell_apart(photographs, tmp_path):
    flags = (f"--image_dir={photographs}", "--near_duplicates=drop")
    result = run_script("convert_data.py", *flags, f"--output_file={tmp_path}/all.tfrecord")
    assert result.returncode == 0, result.stderr
    assert "Near duplicates across splits or labels: 1 pair\n" in result.stdout
    table = tmp_path / "all.tfrecord.near_duplicates.csv"
    assert table.is_file()
    again = run_script(
        "convert_data.py",
        f"--image_dir={photographs}",
        f"--output_file={tmp_path}/all.tfrecord",
        "--overwrite",
    )
    assert again.returncode == 0 and not table.exists()


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "imagehash", None)
    message = "--near_duplicates: ImageHash needs the extra duplicates. Install it: pip install"
    with pytest.raises(InputError, match=message):
        near_duplicates.require()
