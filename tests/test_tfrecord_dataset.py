"""Finding datasets: ours, TF-Slim's, single files; labels, counts and what is wrong with them."""

import dataclasses
import gzip
import io
import json
import os

import pytest
import tensorflow as tf

from datasets import frames, schema, tfrecord_dataset
from datasets.conversion import shards
from foundation import labels

_JPEG = b"\xff\xd8\xff not decoded here"


def _record(label: int, text: str = "", image: bytes = _JPEG) -> bytes:
    return schema.frame(schema.Example(image, "jpeg", 2, 3, label, text, "", (), "").serialize())


def _write(path, labels, texts=None) -> str:
    records = b"".join(_record(label, texts[label] if texts else "") for label in labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wb") if path.suffix == ".gz" else open(path, "wb") as file:
        file.write(records)
    return str(path)


@pytest.mark.parametrize(
    "name, files, split, expected",
    [
        ("ours", ["pets_train-00000-of-00002.tfrecord", "pets_train-00001-of-00002.tfrecord"],
         "train", "pets"),
        ("flowers", ["flowers_train_00000-of-00002.tfrecord",
                     "flowers_train_00001-of-00002.tfrecord"], "train", "flowers"),
        ("cifar10", ["cifar10_train.tfrecord"], "train", "cifar10"),
        ("imagenet", ["train-00000-of-01", "validation-00000-of-01"], "train", ""),
        ("tfds", ["stanford_dogs-train.tfrecord-00000-of-00001"], "train", "stanford_dogs"),
        ("tfrecords", ["my_own_data_train.tfrecords"], "train", "my_own_data"),
        ("gzip", ["zipped_train-00000-of-00001.tfrecord.gz"], "train", "zipped"),
        ("own split", ["pets_fold3.tfrecord", "pets_train.tfrecord"], "fold3", "pets"),
    ],
)  # fmt: skip
def test_files_are_found_by_the_names_that_converters_give(tmp_path, name, files, split, expected):
    for i, file in enumerate(files):
        _write(tmp_path / file, [0, 1] + [0] * i)
    (tmp_path / "labels.txt").write_text("0:cat\n1:dog\n")
    (tmp_path / "rejected.csv").write_text("file,reason\n")
    dataset = tfrecord_dataset.find(str(tmp_path), split=split)
    own = [file for file in files if split in file]
    assert [os.path.basename(path) for path in dataset.files] == own
    assert dataset.name == expected
    assert dataset.num_examples == sum(dataset.file_counts) == {1: 2, 2: 5}[len(own)]
    assert dataset.labels == ("cat", "dog")
    assert dataset.num_classes == 2
    assert dataset.compression == ("GZIP" if name == "gzip" else "")
    assert not dataset.damage


@pytest.mark.parametrize("stored", ["validation", "valid", "val"])
@pytest.mark.parametrize("asked", ["validation", "valid", "val"])
def test_validation_goes_by_three_names(tmp_path, stored, asked):
    _write(tmp_path / f"pets_{stored}.tfrecord", [0, 1], ["cat", "dog"])
    dataset = tfrecord_dataset.find(str(tmp_path), split=asked)
    assert dataset.num_examples == 2
    assert dataset.split == stored


def test_shards_come_in_the_order_of_their_numbers(tmp_path):
    for i in reversed(range(3)):
        _write(tmp_path / f"pets_train-{i:05d}-of-00003.tfrecord", [0] * (i + 1))
    assert tfrecord_dataset.find(str(tmp_path)).file_counts == (1, 2, 3)


def test_files_can_be_named_one_by_one_or_by_a_glob(tmp_path):
    files = [_write(tmp_path / f"part{i}.bin", [0, 1], ["cat", "dog"]) for i in range(3)]
    dataset = tfrecord_dataset.find(tfrecord_file=files[1])
    assert dataset.files == (files[1],)
    dataset = tfrecord_dataset.find(tfrecord_file=f"{files[2]}, {files[0]}")
    assert dataset.files == (files[2], files[0])
    dataset = tfrecord_dataset.find(tfrecord_file=str(tmp_path / "part*"))
    assert dataset.files == tuple(files)
    assert dataset.num_examples == 6


# What is wrong


def _message(**arguments) -> str:
    with pytest.raises(ValueError) as caught:
        tfrecord_dataset.find(**arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_split_is_answered_with_those_there_are(tmp_path):
    _write(tmp_path / "pets_train.tfrecord", [0])
    _write(tmp_path / "pets_test.tfrecord", [0])
    message = _message(dataset_dir=str(tmp_path), split="validation")
    assert message.startswith("--dataset_split_name=validation: ")
    assert message.endswith("has no such split, but test, train.")


def test_several_datasets_in_a_folder_must_be_told_apart(tmp_path):
    _write(tmp_path / "pets_train.tfrecord", [0])
    _write(tmp_path / "birds_train.tfrecord", [0, 0])
    assert "choose one with --dataset_name: birds, pets." in _message(dataset_dir=str(tmp_path))
    assert tfrecord_dataset.find(str(tmp_path), "birds").num_examples == 2
    message = _message(dataset_dir=str(tmp_path), dataset_name="pet")
    assert message.startswith("--dataset_name=pet: ") and message.endswith("but birds, pets.")


def test_files_without_a_name_belong_to_any_dataset(tmp_path):
    _write(tmp_path / "train-00000-of-00001", [0])
    assert tfrecord_dataset.find(str(tmp_path), "imagenet").num_examples == 1


def test_a_missing_shard_is_named(tmp_path):
    for i in (0, 2):
        _write(tmp_path / f"pets_train-{i:05d}-of-00003.tfrecord", [0])
    message = _message(dataset_dir=str(tmp_path))
    assert "1 of its 3 shards are missing, number 1 for one" in message


def test_a_conversion_that_was_ended_between_two_moves_is_named(tmp_path):
    """Its shards would be read with the labels of the one before."""
    _write(tmp_path / "a_train-00000-of-00001.tfrecord", [0, 1])
    (tmp_path / ".a.ready").mkdir()
    assert tfrecord_dataset.find(str(tmp_path)).num_examples == 2
    (tmp_path / ".a.ready" / "labels.txt").write_text("0:x\n1:y\n")
    message = _message(dataset_dir=str(tmp_path))
    assert "put its files in place; .a.ready has the rest. Give the same" in message


def test_two_generations_of_shards_are_not_mixed(tmp_path):
    _write(tmp_path / "pets_train-00000-of-00001.tfrecord", [0])
    _write(tmp_path / "pets_train-00000-of-00002.tfrecord", [0])
    assert "The train split is there more than once" in _message(dataset_dir=str(tmp_path))


def test_no_files_no_folder_no_flags(tmp_path):
    assert "has no TFRecord files" in _message(dataset_dir=str(tmp_path))
    assert "there is no such folder" in _message(dataset_dir=str(tmp_path / "none"))
    assert "there is no such folder" in _message(dataset_dir=f"file://{tmp_path}/none")
    for where in ({"dataset_dir": "nfs://a/b"}, {"tfrecord_file": "nfs://a/b/*.tfrecord"}):
        assert "nfs://a/b" in (message := _message(**where))
        assert "TensorFlow can't read it (File system scheme 'nfs' not implemented" in message
    assert "there is no such file" in _message(tfrecord_file=str(tmp_path / "none*"))
    assert "--dataset_dir" in _message()
    assert "not both" in _message(dataset_dir="a", tfrecord_file="b")


def test_a_split_without_records_is_refused(tmp_path):
    _write(tmp_path / "pets_train.tfrecord", [])
    assert "the train split holds no records" in _message(dataset_dir=str(tmp_path))


# Labels


def test_labels_with_numbers_and_without(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeff1:dog: big\r\n0:cat\r\n\r\n".encode())
    assert labels.read(str(path)) == ("cat", "dog: big")
    path.write_text("cat\n dog \n")
    assert labels.read(str(path)) == ("cat", "dog")
    path.write_text("0:cat\n2:dog\n")
    with pytest.raises(ValueError, match="labels.txt: the numbers .* must be 0 to 1"):
        labels.read(str(path))


def _written(folder, numbers, texts, names):
    _write(folder / "pets_train-00000-of-00001.tfrecord", numbers, texts)
    (folder / "labels.txt").write_text(names)
    return tfrecord_dataset.find(str(folder))


def test_records_from_one_beside_names_without_background(tmp_path):
    texts = ["", "rose", "tulip", "daisy"]
    found = _written(tmp_path, [1, 2, 1, 2], texts, "rose\ntulip\ndaisy\n")
    assert found.labels == ("background", "rose", "tulip", "daisy")
    (remark,) = found.remarks
    assert remark.endswith("number their classes from 1: rose is 1, and 0 the background.")
    offset = tfrecord_dataset.find(str(tmp_path), labels_offset=1)
    assert offset.labels == ("rose", "tulip", "daisy")


def test_records_from_zero_beside_names_with_a_background(tmp_path):
    found = _written(tmp_path, [0, 1], ["rose", "tulip"], "background\nrose\ntulip\n")
    assert found.labels == ("rose", "tulip")
    assert found.remarks[0].endswith("from 0 without background, the first of the names.")


@pytest.mark.parametrize(
    ("numbers", "texts"),
    [([0, 1], ["rose", "tulip"]), ([0, 1], ["n01", "n02"]), ([0, 1], None), ([1], ["", "tulip"])],
)
def test_records_that_agree_or_say_nothing_leave_the_names_as_they_are(tmp_path, numbers, texts):
    found = _written(tmp_path, numbers, texts, "rose\ntulip\n")
    assert found.labels == ("rose", "tulip") and not found.remarks


def test_a_shift_is_seen_whatever_the_case_of_the_names(tmp_path):
    found = _written(tmp_path, [1, 2], ["", "Rose", "TULIP"], "rose\ntulip\n")
    assert found.labels == ("background", "rose", "tulip")


def test_a_text_that_is_none_of_the_names_is_remarked(tmp_path):
    found = _written(tmp_path, [0, 1], ["rose", "lily"], "rose\ntulip\n")
    (remark,) = found.remarks
    assert remark.endswith(
        "number 1 and the name 'lily', but labels.txt calls that number 'tulip'."
    )


def test_names_in_another_order_than_the_records_are_an_error(tmp_path):
    _write(tmp_path / "pets_train-00000-of-00001.tfrecord", [0, 1, 2], ["a", "b", "c"])
    (tmp_path / "labels.txt").write_text("a\nc\nb\n")
    message = _message(dataset_dir=str(tmp_path))
    assert "record 1 has the class number 1 and the name 'b', but labels.txt calls that" in message


@pytest.mark.parametrize(
    "name", ["pets_train.record", "train.record-00000-of-00001", "pets_train.records"]
)
def test_files_called_record_are_read(tmp_path, name):
    _write(tmp_path / name, [0, 1], ["cat", "dog"])
    assert tfrecord_dataset.find(str(tmp_path)).labels == ("cat", "dog")


def test_records_for_detection_are_told_for_what_they_are(tmp_path):
    values = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x"])),
        "image/object/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[1, 2])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=values))
    with tf.io.TFRecordWriter(str(tmp_path / "pets_train.record")) as writer:
        writer.write(example.SerializeToString())
    message = _message(dataset_dir=str(tmp_path))
    assert "pets_train.record: its records are for object detection: they label the" in message
    assert "python convert_data.py --image_dir=IMAGES --annotations_dir=ANNOTATIONS" in message


def test_labels_of_tfds_have_the_name_of_their_feature(tmp_path):
    _write(tmp_path / "dogs-train.tfrecord-00000-of-00001", [0, 1])
    (tmp_path / "label.labels.txt").write_text("n02085620-chihuahua\nn02085782-japanese_spaniel\n")
    labels = tfrecord_dataset.find(str(tmp_path)).labels
    assert labels == ("n02085620-chihuahua", "n02085782-japanese_spaniel")


def test_a_single_file_has_its_labels_beside_it(tmp_path):
    path = _write(tmp_path / "pets.tfrecord", [0, 1])
    (tmp_path / "labels.txt").write_text("other\n")
    (tmp_path / "pets.tfrecord.labels.txt").write_text("0:cat\n1:dog\n")
    assert tfrecord_dataset.find(tfrecord_file=path).labels == ("cat", "dog")


def test_labels_come_from_the_csv_where_no_file_says_them(tmp_path):
    path = _write(tmp_path / "pets.tfrecord", [0, 1])
    table = tmp_path / "pets.csv"
    table.write_text("image;classe\na.jpg;dog\nb.jpg;cat\nc.jpg;dog\n")
    dataset = tfrecord_dataset.find(tfrecord_file=path, path_to_csv=str(table))
    assert dataset.labels == ("cat", "dog")
    table.write_text("a.jpg,dog\nb.jpg,bird\n")
    dataset = tfrecord_dataset.find(tfrecord_file=path, path_to_csv=str(table))
    assert dataset.labels == ("bird", "dog")
    (tmp_path / "labels.txt").write_text("0:dog\n1:bird\n")
    dataset = tfrecord_dataset.find(tfrecord_file=path, path_to_csv=str(table))
    assert dataset.labels == ("dog", "bird")
    message = _message(tfrecord_file=path, path_to_csv=str(tmp_path / "none.csv"))
    assert message.endswith("none.csv: there is no such file.")


def test_names_in_the_records_go_before_the_csv(tmp_path):
    path = _write(tmp_path / "pets.tfrecord", [0, 1], ["b", "a"])
    table = tmp_path / "pets.csv"
    table.write_text("1.jpg,a\n2.jpg,b\n3.jpg,only there\n")
    arguments = {"tfrecord_file": path, "path_to_csv": str(table)}
    assert tfrecord_dataset.find(**arguments).labels == ("b", "a")
    table.write_text("1.jpg,a\n2.jpg,c\n")
    assert "pets.csv: it has the class 'c' and not 'b', " in _message(**arguments)
    assert path in _message(**arguments)


@pytest.mark.parametrize("kind", ["labels.txt", "dataset.json", "records"])
def test_files_that_name_their_classes_differently_are_not_mixed(tmp_path, kind):
    paths = []
    for first in ("cat", "ant"):
        names = [first, "dog"]
        path = tmp_path / f"{first}s.tfrecord"
        paths.append(_write(path, [0, 1], names if kind == "records" else None))
        if kind == "labels.txt":
            (tmp_path / f"{path.name}.labels.txt").write_text(f"0:{first}\n1:dog\n")
        elif kind == "dataset.json":
            (tmp_path / f"{path.name}.dataset.json").write_text(json.dumps({"classes": names}))
    message = _message(tfrecord_file=",".join(paths))
    assert all(path in message for path in paths)
    if kind == "labels.txt":
        (tmp_path / "ants.tfrecord.labels.txt").unlink()
        assert all(path in _message(tfrecord_file=",".join(paths)) for path in paths)
        (tmp_path / "labels.txt").write_text("cat\ndog\n")
        assert tfrecord_dataset.find(tfrecord_file=",".join(paths)).labels == ("cat", "dog")


def test_labels_come_from_the_records_of_all_splits_last(tmp_path):
    names = ["", "cat", "dog", "emu"]
    _write(tmp_path / "train-00000-of-00001", [1, 2, 1], names)
    _write(tmp_path / "validation-00000-of-00001", [3], names)
    dataset = tfrecord_dataset.find(str(tmp_path), split="train")
    assert dataset.labels == ("background", "cat", "dog", "emu")
    dataset = tfrecord_dataset.find(str(tmp_path), split="train", labels_offset=1)
    assert dataset.labels == ("cat", "dog", "emu")
    assert (dataset.num_classes, dataset.labels_offset) == (3, 1)


def test_records_without_class_names_give_their_numbers(tmp_path):
    path = _write(tmp_path / "pets.tfrecord", [0, 2])
    assert tfrecord_dataset.find(tfrecord_file=path).labels == ("0", "1", "2")


def test_a_wrong_checksum_hides_no_class_behind_it(tmp_path):
    damaged = bytearray(_record(0, "ant"))
    damaged[-20] ^= 1
    records = [_record(1, "bee"), bytes(damaged), _record(2, "cat"), _record(0, "ape")]
    (tmp_path / "pets_train.tfrecord").write_bytes(b"".join(records))
    assert tfrecord_dataset.find(str(tmp_path)).labels == ("ape", "bee", "cat")


def test_labels_read_from_the_records_are_kept(tmp_path):
    path = tmp_path / "pets_train.tfrecord"
    _write(path, [0, 1], ["cat", "dog"])
    assert tfrecord_dataset.find(str(tmp_path)).labels == ("cat", "dog")
    memory = tmp_path / ".record_labels.json"
    memory.write_text(memory.read_text().replace("dog", "kept"))
    assert tfrecord_dataset.find(str(tmp_path)).labels == ("cat", "kept")
    _write(path, [0, 1, 2], ["cat", "dog", "emu"])
    assert tfrecord_dataset.find(str(tmp_path)).labels == ("cat", "dog", "emu")


def test_an_offset_must_leave_classes(tmp_path):
    path = _write(tmp_path / "pets.tfrecord", [0, 1])
    assert "--labels_offset=2: it leaves none of the 2" in _message(
        tfrecord_file=path, labels_offset=2
    )


# Counts


def _scan_file(tmp_path):
    return tmp_path / ".record_counts.json"


def test_a_scan_is_kept_beside_the_data_and_renewed_with_it(tmp_path):
    path = tmp_path / "pets_train.tfrecord"
    _write(path, [0, 1])
    first = tfrecord_dataset.find(str(tmp_path))
    kept = json.loads(_scan_file(tmp_path).read_text())
    assert kept["pets_train.tfrecord"]["count"] == 2
    kept["pets_train.tfrecord"]["count"] = 1234  # to see that it is used
    _scan_file(tmp_path).write_text(json.dumps(kept))
    assert tfrecord_dataset.find(str(tmp_path)).num_examples == 1234
    _write(path, [0, 1, 1])
    again = tfrecord_dataset.find(str(tmp_path))
    assert again.num_examples == 3
    assert again.fingerprint != first.fingerprint


@pytest.mark.parametrize("content", ["", "[]", "{", '{"pets_train.tfrecord": 3}'])
def test_a_damaged_scan_is_made_anew(tmp_path, content):
    _write(tmp_path / "pets_train.tfrecord", [0, 1])
    _scan_file(tmp_path).write_text(content)
    assert tfrecord_dataset.find(str(tmp_path)).num_examples == 2


def test_a_folder_that_cannot_be_written_is_read_all_the_same(tmp_path, monkeypatch):
    _write(tmp_path / "pets_train.tfrecord", [0, 1])

    def refuse(*_):
        raise PermissionError("read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    assert tfrecord_dataset.find(str(tmp_path)).num_examples == 2
    assert os.listdir(tmp_path) == ["pets_train.tfrecord"]


def test_a_changed_byte_in_a_record_changes_the_fingerprint(tmp_path):
    a = _write(tmp_path / "a.tfrecord", [0, 1], ["cat", "dog"])
    b = _write(tmp_path / "b.tfrecord", [0, 1], ["cat", "cow"])
    c = _write(tmp_path / "c.tfrecord", [0, 1], ["cat", "dog"])
    a, b, c = (tfrecord_dataset.find(tfrecord_file=path).fingerprint for path in (a, b, c))
    assert a == c != b


def test_files_that_others_take_the_place_of_are_noticed(tmp_path):
    path = tmp_path / "pets_train.tfrecord"
    _write(path, [0, 1], ["cat", "dog"])
    dataset = tfrecord_dataset.find(str(tmp_path))
    assert tfrecord_dataset.replaced(dataset) == ""
    path.rename(tmp_path / "former")
    assert tfrecord_dataset.replaced(dataset) == f"{path} is gone"
    _write(path, [0, 1], ["cat", "dog"])  # another file with the same records
    assert tfrecord_dataset.replaced(dataset) == ""
    _write(path, [1, 0], ["cat", "dog"])
    assert path.stat().st_size == dataset.num_bytes
    assert tfrecord_dataset.replaced(dataset) == f"{path} has other records than it had"


def _state(tmp_path, size: int) -> None:
    shard = {"file": "pets_train.tfrecord", "num_examples": 77, "bytes": size, "fingerprint": "ab"}
    content = {"classes": ["cat", "dog"], "splits": {"train": {"shards": [shard]}}}
    (tmp_path / "dataset.json").write_text(json.dumps(content))


def test_counts_come_from_dataset_json_where_the_sizes_agree(tmp_path):
    path = tmp_path / "pets_train.tfrecord"
    _write(path, [0, 1])
    _state(tmp_path, path.stat().st_size)
    dataset = tfrecord_dataset.find(str(tmp_path))
    assert (dataset.num_examples, dataset.labels) == (77, ("cat", "dog"))
    assert not _scan_file(tmp_path).exists()
    assert not dataset.remarks
    _state(tmp_path, path.stat().st_size + 1)
    for _ in range(2):  # counted, then remembered
        dataset = tfrecord_dataset.find(str(tmp_path))
        assert dataset.num_examples == 2
        told = "Warning: pets_train.tfrecord has 2 records, not 77 as in dataset.json."
        assert dataset.remarks == (f"{told} Were they copied to their end?",)


@pytest.mark.parametrize("content", ["{", "[]", '{"splits": 3}', '{"splits": {"train": {}}}'])
def test_a_dataset_json_of_others_is_passed_over(tmp_path, content):
    _write(tmp_path / "pets_train.tfrecord", [0, 1], ["cat", "dog"])
    (tmp_path / "dataset.json").write_text(content)
    dataset = tfrecord_dataset.find(str(tmp_path))
    assert (dataset.num_examples, dataset.labels) == (2, ("cat", "dog"))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda data: data[:-5], "the file is cut off"),
        (lambda data: data[:-1], "the file is cut off"),
        (lambda data: data + b"\x05\x00\x00", "the file is cut off"),
        (lambda data: data + b"\x05" + bytes(30), "its length is corrupt"),
    ],
)
def test_damaged_files_are_counted_up_to_the_damage(tmp_path, damage, reason, compressed):
    path = tmp_path / ("pets_train.tfrecord" + (".gz" if compressed else ""))
    whole = _record(0) + _record(1)
    damaged = damage(whole + _record(0))
    path.write_bytes(gzip.compress(damaged) if compressed else damaged)
    dataset = tfrecord_dataset.find(str(path.parent))
    number = 2 if len(damaged) < len(whole + _record(0)) else 3
    assert dataset.num_examples == number
    (damage,) = dataset.damage
    lost = f"{path}: record {number}: {reason}; what stands from there on"
    assert damage.startswith(lost) and damage.endswith("is lost")


def test_files_compressed_and_not_are_told_apart(tmp_path):
    _write(tmp_path / "pets_validation-00000-of-00001.tfrecord.gz", [1], ["", "dog"])
    _write(tmp_path / "pets_train-00000-of-00002.tfrecord", [0, 2], ["cat", "", "emu"])
    second = tmp_path / "pets_train-00001-of-00002.tfrecord"
    _write(second, [0], ["cat"])
    assert tfrecord_dataset.find(str(tmp_path)).labels == ("cat", "dog", "emu")
    second.write_bytes(gzip.compress(second.read_bytes()))
    message = _message(dataset_dir=str(tmp_path))
    assert message.startswith(f"{second} is compressed by gzip, unlike the first file of its split")


@pytest.mark.parametrize("number", [-1, 20_000_000])
def test_a_number_that_is_hardly_a_class_is_named(tmp_path, number):
    path = tmp_path / "pets_train.tfrecord"
    path.write_bytes(_record(0, "cat") + _record(1, "dog") + _record(number))
    message = _message(dataset_dir=str(tmp_path))
    assert message.startswith(f"{path}: record 2: its label {number} can hardly be a class number")
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    assert tfrecord_dataset.find(str(tmp_path)).num_classes == 2


def test_a_compressed_file_that_is_cut_off_is_noticed(tmp_path):
    path = tmp_path / "pets_train.tfrecord.gz"
    noise = [_record(0, image=os.urandom(5000)) for _ in range(20)]
    path.write_bytes(gzip.compress(b"".join(noise))[:-3000])
    dataset = tfrecord_dataset.find(str(tmp_path))
    assert 0 < dataset.num_examples < 20
    assert "the compressed file is cut off or corrupt" in dataset.damage[0]


def test_what_is_no_tfrecord_file_is_said_so(tmp_path):
    path = tmp_path / "pets_train.tfrecord"
    path.write_text("<html>not found, but long enough for a header</html>")
    message = _message(dataset_dir=str(tmp_path))
    assert message == f"{path}: record 0: this is not a TFRecord file."


def test_a_dataset_is_frozen(tmp_path):
    dataset = tfrecord_dataset.find(tfrecord_file=_write(tmp_path / "a.tfrecord", [0]))
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.name = "other"


def test_every_so_many_records_one_has_its_place_written_down(tmp_path):
    """By a conversion and by a count; no header before the last of them need be read then."""
    few, many = _record(0, image=b"a"), _record(1, image=b"ab")
    records = (few + many) * 1200
    places = tuple(((len(few) + len(many)) * 512 * i) for i in (1, 2))
    path = tmp_path / "pets_train.tfrecord"
    path.write_bytes(records)
    (tmp_path / "labels.txt").write_text("0:cat\n1:dog\n")
    for _ in range(2):  # counted, then remembered
        assert tfrecord_dataset.find(str(tmp_path)).marks == (places,)
    shard = shards.OpenShard("written", io.BytesIO())
    for _ in range(1200):
        shard.add(few)
        shard.add(many)
    stated = shard.described("pets_train.tfrecord")
    assert stated.marks == places
    part = {"shards": [json.loads(json.dumps(stated._asdict()))]}
    (tmp_path / "dataset.json").write_text(json.dumps({"splits": {"train": part}}))
    _scan_file(tmp_path).unlink()
    assert tfrecord_dataset.find(str(tmp_path)).marks == (places,)
    place = places[1] + len(few)
    assert frames.offset_of(str(path), 2049) == place
    path.write_bytes(bytes(places[1]) + records[places[1] :])
    assert frames.offset_of(str(path), 2049, places) == place
    part["shards"][0]["marks"] = ["no place"]
    (tmp_path / "dataset.json").write_text(json.dumps({"splits": {"train": part}}))
    assert tfrecord_dataset.find(str(tmp_path)).marks == ((),)
