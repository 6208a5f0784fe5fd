import collections
import csv
import errno
import hashlib
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets import schema
from datasets.conversion import convert, records, shards
from datasets.conversion.destination import Destination
from datasets.conversion.job import Job, Source
from datasets.conversion.local_engine import LocalEngine
from datasets.findings import Effect, Finding
from datasets.options import ConversionOptions, DestinationOptions
from datasets.schema import LabeledImage
from datasets.sources import class_folders, csv_table, voc_xml, yolo
from datasets.sources.image_folder import ImageFolder
from foundation.errors import Unreadable

_XML = "<annotation><object><name>a</name></object></annotation>"


def _draw(folder, names, kind="PNG"):
    """Draws small pictures, each another."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).save(path, kind)


@pytest.fixture
def images(tmp_path):
    """30 pictures in two class folders."""
    folder = tmp_path / "images"
    _draw(folder, [f"{label}/{i}.png" for label in ("cat", "dog") for i in range(15)])
    return folder


def _convert(images, output, *, source=None, flags=None, classes=(), name="pets", **options):
    """Converts, with the options of destination and conversion in one list.

    An output that is called .tfrecord is a single file.
    """
    names = set(ConversionOptions.__dataclass_fields__)
    conversion = ConversionOptions(**{key: options.pop(key) for key in names & options.keys()})
    if output.suffix == ".tfrecord":
        destination = DestinationOptions(output_file=str(output), **options)
    else:
        destination = DestinationOptions(output_dir=str(output), dataset_name=name, **options)
    folder = ImageFolder(str(images))
    source = class_folders.read(folder) if source is None else source
    job = Job(destination, conversion, LocalEngine(), flags=flags or {})
    return convert.convert(Source(source, folder, classes), job)


def _records(*files):
    return [
        {key: value.numpy() for key, value in schema.parse_example(record).items()}
        for record in tf.data.TFRecordDataset([str(file) for file in files])
    ]


def _fingerprint(file):
    """SHA-256 of the lengths and checksums that frame the records."""
    framing = hashlib.sha256()
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        framing.update(schema.frame(record)[:12] + schema.frame(record)[-4:])
    return framing.hexdigest()


def _bytes(folder):
    """All files of a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_dataset_has_shards_labels_and_a_description(images, tmp_path):
    output = tmp_path / "out"
    summary = _convert(images, output, num_shards=2, flags={"max_side": 0})
    assert sorted(_bytes(output)) == sorted(summary.files)
    assert sorted(summary.files) == [
        "dataset.json",
        "labels.txt",
        *(f"pets_train-0000{i}-of-00002.tfrecord" for i in range(2)),
        *(f"pets_validation-0000{i}-of-00002.tfrecord" for i in range(2)),
        "rejected.csv",
    ]
    assert (output / "labels.txt").read_text() == "0:cat\n1:dog\n"
    content = json.loads((output / "dataset.json").read_text())
    assert content["name"] == "pets" and content["classes"] == ["cat", "dog"]
    assert content["num_examples"] == 30 and content["flags"] == {"max_side": 0}
    assert content["source_formats"] == {"PNG": 30} and content["widths"] == [8, 8]
    seen = {}
    for split, part in content["splits"].items():
        counts = collections.Counter()
        for shard in part["shards"]:
            assert shard["bytes"] == (output / shard["file"]).stat().st_size
            assert shard["fingerprint"] == _fingerprint(output / shard["file"])
            records = _records(output / shard["file"])
            assert shard["num_examples"] == len(records)
            for record in records:
                name = record["filename"].decode()
                assert record["encoded"] == (images / name).read_bytes()
                assert record["text"].decode() == name.split("/")[0]
                assert ["cat", "dog"][record["label"]] == name.split("/")[0]
                counts[record["text"].decode()] += 1
                seen[name] = split
        assert part["classes"] == counts == summary.counts[split]
        sizes = [shard["num_examples"] for shard in part["shards"]]
        assert max(sizes) - min(sizes) <= 1
    assert len(seen) == 30


def test_slims_own_reader_could_read_the_records(images, tmp_path):
    _convert(images, tmp_path / "out", validation_fraction=0.0)
    # As in the datasets of TF-Slim's research/slim/datasets/flowers.py.
    keys = {
        "image/encoded": tf.io.FixedLenFeature((), tf.string, default_value=""),
        "image/format": tf.io.FixedLenFeature((), tf.string, default_value="png"),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64, tf.zeros([], tf.int64)),
    }
    ds = tf.data.TFRecordDataset(str(tmp_path / "out" / "pets_train-00000-of-00001.tfrecord"))
    parsed = [tf.io.parse_single_example(record, keys) for record in ds]
    assert len(parsed) == 30
    for example in parsed:
        assert example["image/format"] == b"png"
        assert tf.io.decode_image(example["image/encoded"]).shape == (6, 8, 3)


def test_the_classes_are_mixed(images, tmp_path):
    _convert(images, tmp_path / "out", validation_fraction=0.0)
    records = _records(tmp_path / "out" / "pets_train-00000-of-00001.tfrecord")
    labels = [int(record["label"]) for record in records]
    assert sum(a != b for a, b in zip(labels[1:], labels[:-1], strict=True)) > 5


def test_shards_have_about_the_size_that_is_meant(images, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 5000)
    summary = _convert(images, tmp_path / "out", validation_fraction=0.0)
    files = [tmp_path / "out" / name for name in summary.files if "pets_train" in name]
    assert len(files) > 2
    assert files[0].name == f"pets_train-00000-of-{len(files):05d}.tfrecord"
    assert all(4000 < file.stat().st_size <= 5000 for file in files[:-1])
    assert len(_records(*files)) == 30


def test_the_number_of_workers_changes_no_byte(tmp_path):
    _draw(tmp_path / "images", [f"{label}/{i}.png" for label in "ab" for i in range(100)])
    _draw(tmp_path / "images", [f"b/{i}.webp" for i in range(20)], "WEBP")
    (tmp_path / "images" / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    for number in (1, 2, 3):
        _convert(tmp_path / "images", tmp_path / str(number), num_workers=number, num_shards=3)
    assert _bytes(tmp_path / "1") == _bytes(tmp_path / "2") == _bytes(tmp_path / "3")
    assert len(_bytes(tmp_path / "1")) == 9


def _splits_of(output):
    content = json.loads((output / "dataset.json").read_text())
    return {
        record["filename"].decode(): split
        for split, part in content["splits"].items()
        for shard in part["shards"]
        for record in _records(output / shard["file"])
    }


def test_more_photographs_move_none(images, tmp_path):
    _convert(images, tmp_path / "before", test_fraction=0.2)
    _draw(images, [f"{label}/more{i}.png" for label in ("ant", "dog") for i in range(15)])
    _convert(images, tmp_path / "after", test_fraction=0.2)
    before, after = _splits_of(tmp_path / "before"), _splits_of(tmp_path / "after")
    assert set(before.values()) == {"train", "validation", "test"}
    assert len(after) == 60 and before.items() <= after.items()


def test_exact_duplicates_are_told_and_share_a_split(images, tmp_path):
    for i in range(15):
        shutil.copy(images / f"cat/{i}.png", images / f"cat/copy{i}.png")
    shutil.copy(images / "cat/0.png", images / "dog/cat0.png")
    summary = _convert(images, tmp_path / "out")
    where = _splits_of(tmp_path / "out")
    assert all(where[f"cat/{i}.png"] == where[f"cat/copy{i}.png"] for i in range(15))
    rows = _rows(tmp_path / "out" / "duplicates.csv")
    assert len(rows) == len(summary.duplicates) == 16
    assert sum(row["problem"] != "" for row in rows) in (1, 2)  # two, if dog/cat0.png comes first
    assert any({"labels cat and dog", "labels dog and cat"} & {row["problem"]} for row in rows)
    content = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert content["duplicates"] == 16


def test_duplicates_across_splits_of_the_source_are_told(tmp_path):
    _draw(tmp_path, [f"images/{split}/cat/{i}.png" for split in ("train", "test") for i in (1, 2)])
    shutil.copy(tmp_path / "images/train/cat/1.png", tmp_path / "images/test/cat/x.png")
    folder = ImageFolder(str(tmp_path / "images"))
    source = class_folders.read(folder, one_is_enough=True)
    summary = _convert(tmp_path / "images", tmp_path / "out", source=source)
    (duplicate,) = summary.duplicates
    assert {duplicate.file, duplicate.same_as} == {"test/cat/x.png", "train/cat/1.png"}
    assert duplicate.problem in ("splits train and test", "splits test and train")
    assert {split: count["cat"] for split, count in summary.counts.items()} == {
        "train": 2,
        "test": 3,
    }


def test_what_is_not_usable_is_listed_and_the_rest_written(images, tmp_path):
    (images / "cat" / "broken.jpg").write_bytes(b"<html>")
    (images / "dog" / "empty.png").write_bytes(b"")
    summary = _convert(images, tmp_path / "out")
    assert _rows(tmp_path / "out" / "rejected.csv") == [
        {"file": "cat/broken.jpg", "reason": "not an image: begins with b'<html>'"},
        {"file": "dog/empty.png", "reason": "empty file"},
    ]
    assert len(summary.findings) == 2
    assert sum(count.total() for count in summary.counts.values()) == 30
    content = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert content["rejected"] == {"empty file": 1, "not an image": 1}


def test_stop_on_error(images, tmp_path):
    (images / "cat" / "broken.jpg").write_bytes(b"<html>")
    with pytest.raises(ValueError, match="^cat/broken.jpg: not an image: .*--on_error=fail"):
        _convert(images, tmp_path / "out", on_error="fail")
    assert _bytes(tmp_path / "out") == {}
    source = [Finding("x.xml", "empty annotation"), LabeledImage("cat/0.png", "cat")]
    with pytest.raises(ValueError, match="^x.xml: empty annotation. Stopped by --on_error=fail"):
        _convert(images, tmp_path / "out", source=source, on_error="fail")


def test_what_a_flag_asked_for_is_no_error(images, tmp_path):
    asked = [Finding(f"{i}.jpg", "several objects: 2", Effect.LEFT_OUT) for i in range(9)]
    source = [*asked, LabeledImage("cat/0.png", "cat")]
    summary = _convert(
        images, tmp_path / "out", source=source, on_error="fail", validation_fraction=0.0
    )
    assert len(summary.findings) == 9
    assert len(_rows(tmp_path / "out" / "rejected.csv")) == 9


def test_more_than_half_not_usable_is_an_error(images, tmp_path):
    for i in range(31):
        (images / "cat" / f"broken{i}.jpg").write_bytes(b"")
    message = r"31 of 61 photographs are not usable: empty file \(31\); such as cat/broken0.jpg: e"
    with pytest.raises(ValueError, match=message):
        _convert(images, tmp_path / "out")
    assert list(_bytes(tmp_path / "out")) == ["rejected.csv"]
    assert len(_rows(tmp_path / "out" / "rejected.csv")) == 31
    (images / "cat" / "broken0.jpg").unlink()
    _convert(images, tmp_path / "out")  # half of them is not more than half
    assert "dataset.json" in _bytes(tmp_path / "out")


def test_a_class_that_is_empty_in_training_is_an_error(images, tmp_path):
    (images / "ant").mkdir()
    (images / "ant" / "broken.png").write_bytes(b"")
    with pytest.raises(ValueError, match="No photograph of the class 'ant' is left for training"):
        _convert(images, tmp_path / "out")
    with pytest.raises(ValueError, match=r"class 'bat' \(and of 1 other classes\) is left"):
        _convert(images, tmp_path / "out", classes=("bat", "cat", "cow", "dog"), overwrite=True)


def test_a_class_without_training_photographs_among_some_without_split_is_an_error(
    images, tmp_path
):
    source = [LabeledImage(f"cat/{i}.png", "cat") for i in range(15)]
    validation = [LabeledImage(f"dog/{i}.png", "dog", split="validation") for i in range(15)]
    with pytest.raises(ValueError, match="class 'dog' is left for training; 15 are in other"):
        _convert(images, tmp_path / "out", source=source + validation)
    summary = _convert(images, tmp_path / "out", source=validation)
    assert summary.counts == {"validation": {"dog": 15}}


def test_nothing_at_all_is_an_error(images, tmp_path):
    with pytest.raises(ValueError, match="No labelled photograph was found.$"):
        _convert(images, tmp_path / "out", source=[])
    with pytest.raises(ValueError, match="was found. The first of 1: x.xml: empty annotation"):
        _convert(images, tmp_path / "out", source=[Finding("x.xml", "empty annotation")])


def test_given_classes_fix_the_numbers_and_reject_others(images, tmp_path):
    _draw(images, ["ant/1.png"])
    summary = _convert(images, tmp_path / "out", classes=("dog", "cat"), validation_fraction=0.0)
    assert (tmp_path / "out" / "labels.txt").read_text() == "0:dog\n1:cat\n"
    records = _records(tmp_path / "out" / "pets_train-00000-of-00001.tfrecord")
    assert {(r["text"], int(r["label"])) for r in records} == {(b"dog", 0), (b"cat", 1)}
    assert list(summary.findings) == [
        Finding("ant/1.png", "label not in --classes: ant; the nearest is cat")
    ]


def test_the_same_again_does_nothing(images, tmp_path):
    first = _convert(images, tmp_path / "out", flags={"max_side": 0})
    before = _bytes(tmp_path / "out")
    again = _convert(images, tmp_path / "out", flags={"max_side": 0})
    assert again.already_done and not first.already_done
    assert (again.counts, again.files) == (first.counts, first.files)
    assert _bytes(tmp_path / "out") == before


def test_a_damaged_dataset_is_made_anew_when_asked(images, tmp_path):
    _convert(images, tmp_path / "out")
    before = _bytes(tmp_path / "out")
    shard = tmp_path / "out" / "pets_train-00000-of-00001.tfrecord"
    damaged = bytearray(shard.read_bytes())
    damaged[100:103] = bytes(255 - byte for byte in damaged[100:103])
    shard.write_bytes(damaged)
    assert not _convert(images, tmp_path / "out", overwrite=True).already_done
    assert _bytes(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("flag", "a dataset made with --max_side=0"),
        ("photograph", "a dataset of other photographs or labels"),
        ("classes", "a dataset of other classes"),
        ("shard", "a dataset whose pets_train-00000-of-00001.tfrecord is missing or cut off"),
        ("description", "not left by a finished conversion"),
    ],
)
def test_another_dataset_is_replaced_only_when_asked(images, tmp_path, change, message):
    output = tmp_path / "out"
    options = {"flags": {"max_side": 0}}
    _convert(images, output, **options)
    if change == "flag":
        options["flags"] = {"max_side": 9}
    elif change == "photograph":
        _draw(images, ["cat/new.png"])
    elif change == "classes":
        options["classes"] = ("dog", "cat")
    elif change == "shard":
        shard = output / "pets_train-00000-of-00001.tfrecord"
        shard.write_bytes(shard.read_bytes()[:-1])
    else:
        (output / "dataset.json").unlink()
    before = _bytes(output)
    with pytest.raises(ValueError, match=f"is there already, {message}. Replace it with --overwr"):
        _convert(images, output, **options)
    assert _bytes(output) == before
    _convert(images, output, overwrite=True, num_shards=2, **options)
    fresh = tmp_path / "fresh"
    _convert(images, fresh, num_shards=2, **options)
    assert _bytes(output) == _bytes(fresh)  # nothing of the old one is left


def test_a_folder_holds_one_dataset(images, tmp_path):
    _convert(images, tmp_path / "out")
    with pytest.raises(ValueError, match="holds the dataset 'pets', and a folder holds one"):
        _convert(images, tmp_path / "out", name="other", overwrite=True)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": "pets"}', "not JSON"])
def test_an_alien_description_is_not_touched(images, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset.json").write_text(content)
    with pytest.raises(ValueError, match="dataset.json is not a dataset.json of ours"):
        _convert(images, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "dataset.json").read_text() == content


def test_a_failed_replacement_leaves_the_old_dataset_as_it_was(images, tmp_path):
    _convert(images, tmp_path / "out")
    before = _bytes(tmp_path / "out")
    for i in range(40):
        (images / "cat" / f"broken{i}.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="40 of 70 photographs are not usable"):
        _convert(images, tmp_path / "out", overwrite=True)
    assert _bytes(tmp_path / "out") == before


class _Killed(BaseException):
    """Stands for a signal that leaves no time to clean up."""


def test_the_disk_has_a_dataset_before_it_takes_its_place(images, tmp_path, monkeypatch):
    """So that a loss of power leaves no dataset.json beside empty shards."""
    settled, published, fsync, rename = set(), [], os.fsync, os.rename

    def settle(handle):
        settled.add(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def publish(source, target):
        if os.path.isdir(source):  # else a shard gets its number
            published.append({*os.listdir(source), os.path.basename(source)} - settled)
        rename(source, target)

    monkeypatch.setattr(os, "fsync", settle)
    monkeypatch.setattr(os, "rename", publish)
    _convert(images, tmp_path / "out", num_shards=2)
    assert published == [set()] and "pets_train-00001-of-00002.tfrecord" in settled


@pytest.mark.parametrize("moved", range(6))
def test_a_kill_while_files_are_moved_is_made_good(images, tmp_path, monkeypatch, moved):
    output, fresh = tmp_path / "out", tmp_path / "fresh"
    _convert(images, output, num_shards=3)
    _draw(images, ["cat/new.png"])
    _convert(images, fresh, num_shards=1)
    replace, count = os.replace, 0

    def killed(*paths):
        nonlocal count
        if count == moved:
            raise _Killed
        count += 1
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        if moved < 5:
            with pytest.raises(_Killed):
                _convert(images, output, overwrite=True)
            assert not (output / "dataset.json").exists()  # nothing looks finished
        else:
            _convert(images, output, overwrite=True)
    assert _convert(images, output).already_done
    assert _bytes(output) == _bytes(fresh)


def test_what_a_killed_conversion_left_is_cleared_away(images, tmp_path):
    left = tmp_path / "out" / ".pets.writing"
    left.mkdir(parents=True)
    (left / "train-00007").write_bytes(b"half a record")
    _convert(images, tmp_path / "out")
    _convert(images, tmp_path / "fresh")
    assert _bytes(tmp_path / "out") == _bytes(tmp_path / "fresh")


def test_two_conversions_into_one_place_do_not_mix(images, tmp_path):
    other = Destination(str(tmp_path / "out"), "pets")
    with other.writing():
        with pytest.raises(ValueError, match="out: another conversion is writing pets there"):
            _convert(images, tmp_path / "out")
    _convert(images, tmp_path / "out")


def test_a_dry_run_checks_all_and_writes_nothing(images, tmp_path):
    (images / "cat" / "broken.jpg").write_bytes(b"<html>")
    summary = _convert(images, tmp_path / "out", dry_run=True)
    assert sum(count.total() for count in summary.counts.values()) == 30
    assert len(summary.findings) == 1 and summary.files == []
    assert not (tmp_path / "out").exists()


def test_a_single_file_has_everything_and_its_own_side_files(images, tmp_path):
    _draw(images, ["dog/again.png"])
    first = tmp_path / "out" / "a.tfrecord"
    second = tmp_path / "out" / "b.tfrecord"
    _convert(images, first)
    _convert(images, second, classes=("dog", "cat"))
    assert sorted(_bytes(tmp_path / "out")) == [
        f"{name}.tfrecord{side}"
        for name in "ab"
        for side in ("", ".dataset.json", ".labels.txt", ".rejected.csv")
    ]
    assert (tmp_path / "out" / "a.tfrecord.labels.txt").read_text() == "0:cat\n1:dog\n"
    assert (tmp_path / "out" / "b.tfrecord.labels.txt").read_text() == "0:dog\n1:cat\n"
    assert len(_records(tmp_path / "out" / "a.tfrecord")) == 31
    assert _convert(images, first).already_done
    with pytest.raises(ValueError, match="a.tfrecord is there already, a dataset of other classes"):
        _convert(images, first, classes=("dog", "cat"))


def test_a_single_file_may_lack_some_of_the_given_classes(images, tmp_path):
    part = tmp_path / "a.tfrecord"
    summary = _convert(images, part, classes=("cat", "cow", "dog"))
    assert summary.counts == {"all": {"cat": 15, "dog": 15}}
    assert (tmp_path / "a.tfrecord.labels.txt").read_text() == "0:cat\n1:cow\n2:dog\n"


def test_a_single_file_is_not_a_folder(tmp_path):
    with pytest.raises(ValueError, match=f"--output_file={tmp_path}: it is a folder"):
        Destination.of(DestinationOptions(output_file=str(tmp_path)))


def test_a_place_that_cannot_be_written_is_named(images, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file/out cannot be written: Not a directory"):
        _convert(images, tmp_path / "file" / "out")


def test_a_photograph_may_become_several_examples(images, tmp_path):
    source = [LabeledImage("cat/0.png", "cat"), LabeledImage("cat/0.png", "dog")]
    summary = _convert(images, tmp_path / "out", source=source, validation_fraction=0.0)
    assert summary.counts["train"] == {"cat": 1, "dog": 1}
    assert len(summary.duplicates) == 0
    (images / "cat" / "1.png").write_bytes(b"")
    source += [LabeledImage("cat/1.png", "cat"), LabeledImage("cat/1.png", "dog")]
    destination = tmp_path / "more"
    summary = _convert(images, destination, source=source, validation_fraction=0.0)
    assert list(summary.findings) == [Finding("cat/1.png", "empty file")]  # once


def test_a_file_name_that_is_not_utf8_comes_through(images, tmp_path):
    name = b"caf\xe9.png".decode(errors="surrogateescape")
    (images / "cat" / "0.png").rename(images / "cat" / name)
    (images / "cat" / f"broken-{name}").write_bytes(b"")
    _convert(images, tmp_path / "out", validation_fraction=0.0)
    records = _records(tmp_path / "out" / "pets_train-00000-of-00001.tfrecord")
    assert b"cat/caf\xe9.png" in {record["filename"] for record in records}
    assert b"broken-caf\xe9.png" in (tmp_path / "out" / "rejected.csv").read_bytes()
    assert _convert(images, tmp_path / "out", validation_fraction=0.0).already_done


def test_more_shards_than_five_digits_count_are_its_own(tmp_path):
    name = "pets_train-100000-of-100001.tfrecord"
    (tmp_path / name).write_bytes(b"")
    assert Destination(str(tmp_path), "pets").files_in_the_way() == [name]


def _failing(monkeypatch, name, number=errno.EIO):
    """Lets the system fail where a file is opened whose path ends so."""

    def fail(path, *args, **kwargs):
        if str(path).endswith(name):
            raise OSError(number, os.strerror(number), str(path))
        return open(path, *args, **kwargs)

    for module in ("datasets.sources.image_folder", "foundation.files"):
        monkeypatch.setattr(f"{module}.open", fail, raising=False)


@pytest.mark.parametrize("options", [{}, {"num_workers": 3}, {"near_duplicates": "report"}])
def test_a_disk_that_fails_shrinks_no_dataset(images, tmp_path, monkeypatch, options):
    with monkeypatch.context() as patch:
        _failing(patch, "dog/3.png")
        with pytest.raises(Unreadable, match=r"dog/3.png: Input/output error\. Check the disk"):
            _convert(images, tmp_path / "out", **options)
        assert not any((tmp_path / "out").glob("*"))
    assert _convert(images, tmp_path / "out", **options).num_examples == 30


def test_a_disk_that_fails_while_depths_are_looked_at_is_told(images, tmp_path, monkeypatch):
    Image.fromarray(np.zeros((5, 5), np.uint16)).save(images / "cat/deep.png")
    _failing(monkeypatch, "dog/3.png", errno.ESTALE)
    folder = ImageFolder(str(images))
    with pytest.raises(Unreadable, match="dog/3.png: Stale"):
        records.used_bits(folder, class_folders.read(folder))


@pytest.mark.parametrize("kind", ["xml", "txt", "csv"])
def test_a_disk_that_fails_while_labels_are_read_is_told(images, tmp_path, monkeypatch, kind):
    (tmp_path / "labels").mkdir()
    for name in ("0", "1"):
        shutil.copy(images / "cat" / f"{name}.png", tmp_path / "labels")
        text = {"xml": _XML, "txt": "0 .5 .5 .2 .2", "csv": "filename,label\n0.png,a\n1.png,b\n"}
        (tmp_path / "labels" / f"{name}.{kind}").write_text(text[kind])
    folder = ImageFolder(str(tmp_path / "labels"))
    items = {
        "xml": lambda: voc_xml.read(folder.path, folder, "each"),
        "txt": lambda: yolo.read(folder.path, folder, "each", ("a",)),
        "csv": lambda: csv_table.read([f"{folder.path}/1.csv"], folder, "each"),
    }[kind]
    assert len([item for item in items() if isinstance(item, LabeledImage)]) == 2
    _failing(monkeypatch, f"1.{kind}")
    with pytest.raises(Unreadable, match=f"1.{kind}: Input/output error"):
        list(items())
