"""Inputs that fuzzing found, each a crash, a hang or a way outside once; each is refused in a line.

Those of checkpoints' indexes are in test_checkpoint_formats.py, which reads them piece by piece.
"""

import gzip
import io
import json
import os
import shutil
import struct
import tarfile

import h5py
import keras
import numpy as np
import pytest
import scipy.io

from datasets import bad_records, batches, schema, tfrecord_dataset
from datasets.sources import class_list, csv_table, matlab, split_lists
from datasets.sources.image_folder import ImageFolder
from foundation import documents, labels
from foundation.errors import InputError
from nets import checkpoints, keras_applications, keras_files
from nets.keras_applications import Application
from runs import category_names, preparation
from runs import config as run_config
from serving import classifier, export_config
from tests.conftest import ROOT

FILES = ROOT / "tests" / "fixtures" / "files"
DEEP = "[" * 100_000


# Tables and lists


@pytest.mark.parametrize("content", ["sep=;\nfAIN,gs://x/a.jpg", "sep=;\n\0g,do"])
def test_a_table_of_one_column_behind_a_stated_separator(tmp_path, content):
    (tmp_path / "table.csv").write_text(content)
    refusal = "it has one column|line contains NUL"  # the second is Python 3.10's of a zero byte
    with pytest.raises(InputError, match=refusal):
        csv_table.labels(str(tmp_path / "table.csv"))
    with pytest.raises(InputError, match=refusal):
        list(csv_table.read([str(tmp_path / "table.csv")], ImageFolder(str(tmp_path)), "each"))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_matlab_file_is_refused_wherever_the_damage_is(compressed):
    """SciPy's reader ended the process at some of these."""
    buffer, names = io.BytesIO(), np.array([["a.jpg"], ["sub/é.jpg"]], dtype=object)
    scipy.io.savemat(buffer, {"other": 1, "file_list": names}, do_compression=compressed)
    sound, read = buffer.getvalue(), 0
    assert matlab.texts(sound, "file_list") == ["a.jpg", "sub/é.jpg"]
    for place in range(len(sound)):
        for data in (
            sound[:place],
            sound[:place] + bytes([sound[place] ^ 0xFF]) + sound[place + 1 :],
        ):
            try:
                read += matlab.texts(data, "file_list") is not None
            except matlab.NotMatlab:
                pass
    assert read  # where the damage is in what is not looked at


def test_a_matlab_text_of_no_dimensions_is_none():
    buffer, names = io.BytesIO(), np.array([["a.jpg"], ["b.jpg"]], dtype=object)
    scipy.io.savemat(buffer, {"file_list": names})
    before, dimensions = buffer.getvalue().rpartition(b"\x05\0\0\0\x08\0\0\0")[::2]
    before, of_the_first = before.rpartition(b"\x05\0\0\0\x08\0\0\0")[::2]
    tag = b"\x05\0\0\0%c\0\0\0"
    data = before + tag % 0 + of_the_first + tag % 8 + dimensions
    assert matlab.texts(data, "file_list") == ["b.jpg"]


def test_a_matlab_file_that_is_cut_off_is_named(tmp_path):
    path = tmp_path / "train_list.mat"
    scipy.io.savemat(path, {"file_list": np.array([["a.jpg"]], dtype=object)})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"train_list\.mat: no MATLAB file"):
        split_lists.SplitLists([str(path)])


@pytest.mark.parametrize("line", ["{}:cat", "{},cat", "cat,{}"])
def test_numbers_of_thousands_of_digits_are_no_class_numbers(tmp_path, line):
    (tmp_path / "classes.txt").write_text(line.format("9" * 5000))
    with pytest.raises(InputError, match="the numbers"):
        class_list.read(str(tmp_path / "classes.txt"))


def test_names_with_such_a_number_are_refused_in_labels_txt():
    with pytest.raises(InputError, match="must be 0 to 0"):
        labels.parse(b"9" * 5000 + b":cat", "labels.txt")


@pytest.mark.parametrize("content", [DEEP, '["\\ud800"]', '{"a":' * 50_000])
def test_json_that_python_can_t_hold_is_refused(tmp_path, content):
    (tmp_path / "names.json").write_text(content)
    with pytest.raises(InputError, match="is no JSON"):
        class_list.read(str(tmp_path / "names.json"))
    with pytest.raises(InputError, match="it is no JSON"):
        category_names.read(str(tmp_path / "names.json"))


# What a run and an export say of themselves

RUN = json.loads((FILES / "run_format_1.json").read_text("utf-8"))
EXPORT = json.loads((FILES / "export_format_1.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_name": 5}, "model_name is '5', not a text"),
        ({"labels": "cat"}, "labels is 'cat', not a list"),
        ({"labels": [1, 2, 3]}, "labels is '1', not a text"),
        ({"labels": ["cat"]}, "1 labels for 3 classes"),
        ({"num_classes": -1}, "no classes"),
        ({"num_classes": True}, "num_classes is 'True', not a whole number"),
        ({"image_size": 10**9}, "images of 1000000000 pixels"),
        ({"image_size": 28.5}, "image_size is '28.5', not a whole number"),
        ({"moving_average_decay": float("nan")}, "moving_average_decay is 'nan', not a number"),
        ({"flags": []}, "flags is .* not an object"),
        ({"flags": {"train_dir": 5}}, "flags.train_dir is 5"),
        ({"trained": {"seconds": "long"}}, "trained.seconds is 'long', not a number"),
        ({"preprocessing_options": {"zca_file": "../../secret.npz"}}, "is no name of a file"),
        ({"preprocessing_options": {"zca_file": "/etc/passwd"}}, "is no name of a file"),
        ({"preprocessing_options": {"zca_file": 5}}, "is no name of a file"),
        ({"more": 1}, "unknown: more"),
    ],
)
def test_a_run_json_of_other_values_is_refused(tmp_path, changes, reason):
    (tmp_path / "run.json").write_text(json.dumps(RUN | changes))
    with pytest.raises(InputError, match=f"run.json can't be read .*{reason}"):
        run_config.load(str(tmp_path))


@pytest.mark.parametrize("content", [DEEP, '{"format": 1, "labels": ["\\ud800"]}', "\x00", "5"])
def test_a_run_json_that_is_no_such_object(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match="run.json can't be read"):
        run_config.load(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"files": {"frozen_graph": "../../secret.pb"}}, "is no name of a file"),
        ({"files": {"frozen_graph": "/etc/passwd"}}, "is no name of a file"),
        ({"files": []}, "files is .* not an object"),
        ({"image_size": 65535}, "run.image_size is '65535'"),
        ({"num_classes": "3"}, "run.num_classes is '3'"),
        ({"preprocessing_options": {"zca_file": "../x.npz"}}, "is no name of a file"),
        ({"nodes": {"logits": 5}}, "nodes.logits is '5', not a text"),
    ],
)
def test_an_export_json_of_other_values_is_refused(tmp_path, changes, reason):
    (tmp_path / "export.json").write_text(json.dumps(EXPORT | changes))
    with pytest.raises(InputError, match=f"export.json can't be read .*{reason}"):
        export_config.load(str(tmp_path / "export.json"))


def test_an_export_json_that_names_no_nodes_or_another_training(tmp_path):
    (tmp_path / "frozen_graph.pb").write_bytes(b"")
    (tmp_path / "labels.txt").write_text("cat\ndog\nemu\n")
    (tmp_path / "export.json").write_text(json.dumps(EXPORT | {"nodes": {}}))
    with pytest.raises(InputError, match="is no frozen graph"):
        classifier.load(str(tmp_path), lambda *_: None)
    with pytest.raises(InputError, match="what is said of a training can't be used .unknown: x"):
        run_config.parsed({**export_config.load(str(FILES / "export_format_1.json")).run, "x": 1})


def test_pixels_of_a_run_are_numbers():
    run = run_config.parsed(_plain_run() | {"preprocessing_options": {"means": [0.5, None, 1]}})
    with pytest.raises(InputError, match="preprocessing_options of the run can't be used .means"):
        preparation.recipe_of(run, str)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"flags": {"train_dir": {}}}, "flags.train_dir is {}"),
        ({"image_size": -32}, r"run.json can't be read \(images of -32 pixels\)"),
        ({"preprocessing_options": {"means": [10**400, 1, 1]}}, "means"),
    ],
)
def test_a_run_of_strange_values_is_refused(tmp_path, changes, reason):
    (tmp_path / "run.json").write_text(json.dumps(RUN | changes))
    with pytest.raises(InputError, match=reason):
        preparation.recipe_of(run_config.load(str(tmp_path)), str)


def test_a_run_with_whitening_names_its_file():
    run = run_config.parsed(_plain_run() | {"preprocessing_options": {"normalization": "zca"}})
    with pytest.raises(InputError, match="name no zca_file"):
        preparation.recipe_of(run, str)


def test_documents_take_none_where_it_may_be():
    assert documents.of(run_config.RunConfig, {**_plain_run(), "dataset_dir": None})
    with pytest.raises(ValueError, match="image_size is missing"):
        documents.of(run_config.RunConfig, {"labels": []})
    with pytest.raises(ValueError, match="it is no object"):
        documents.of(run_config.RunConfig, [])


def _plain_run():
    return {name: value for name, value in RUN.items() if name != "format"}


# Records


def test_a_record_whose_feature_has_a_name_that_is_no_text():
    feature = b"\x0a\x08\x0a\x06\x0a\x02\xff\xfe\x12\x00"
    assert not schema.is_for_detection(feature)
    assert schema.encoded_image(feature) == b""


@pytest.mark.parametrize("length", [1 << 30, 1 << 40, (1 << 64) - 1])
def test_a_compressed_record_of_any_length_takes_no_memory(tmp_path, length):
    header = struct.pack("<Q", length)
    data = gzip.compress(header + schema.masked_crc(header) + bytes(100))
    (tmp_path / "pets_train.tfrecord").write_bytes(data)
    (tmp_path / "labels.txt").write_text("cat\n")
    with pytest.raises(InputError, match=f"a compressed record of {length} bytes"):
        tfrecord_dataset.find(str(tmp_path))


def test_a_record_of_which_tensorflow_s_message_is_no_text(tmp_path):
    """Bytes of the record stand in the message, and Python raised an error of its own for them."""
    good = schema.Example(b"", "png", 1, 1, 0, "cat", "a", (), "").serialize()
    path = tmp_path / "pets_train.tfrecord"
    path.write_bytes(schema.frame(good) + schema.frame(b"\xd4\xff\xfe" * 9))
    (tmp_path / "labels.txt").write_text("cat\n")
    dataset = tfrecord_dataset.find(str(tmp_path))
    _, bad = bad_records.find(dataset)
    assert "it is no example with image, label and boxes" in bad.reason

    def read():
        return list(batches.evaluation_batches(dataset, lambda encoded: [0.0], 1))

    with pytest.raises(InputError, match="record 1: it is no example|record 0: its image"):
        batches.explained(dataset, read)


# Archives


def _tar(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    info = tarfile.TarInfo(name.decode())
    info.type = kind
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512])
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        (b"\xff" * 10 + b"\xfe\x00", "its parts overlap|bad checksum|invalid header"),  # -512
        (b"\x80" + b"\0" * 6 + b"\x10" + bytes(4), "more than 16 GiB|cut short|unexpected end"),
    ],
)
def test_an_archive_of_strange_sizes_neither_hangs_nor_fills_the_disk(tmp_path, size, reason):
    (tmp_path / "zoo.tar").write_bytes(_tar(b"model.ckpt", size) + bytes(2048))
    with pytest.raises(InputError, match=f"not a whole archive.*({reason})"):
        checkpoints.read(str(tmp_path / "zoo.tar"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_in_an_archive_are_passed_over(tmp_path, kind):
    (tmp_path / "secret.ckpt").write_text("secret")
    with tarfile.open(tmp_path / "zoo.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("model.ckpt")
        info.type, info.linkname = kind, str(tmp_path / "secret.ckpt")
        tar.addfile(info)
    with pytest.raises(InputError, match="no checkpoint there"):
        checkpoints.read(str(tmp_path / "zoo.tar.gz"))


# Keras's files


@pytest.fixture
def tiny(monkeypatch):
    """A row whose net is one layer."""

    def build(weights=None, classes=3, include_top=True, classifier_activation=None):
        images = keras.Input((4, 4, 3))
        x = keras.layers.Conv2D(2, 3, name="conv")(images)
        return keras.Model(images, keras.layers.Dense(classes)(x) if include_top else x)

    monkeypatch.setattr(keras.applications, "Tiny", build, raising=False)
    rows = {**keras_applications.APPLICATIONS, "tiny": Application("Tiny", 4)}
    monkeypatch.setattr(keras_applications, "APPLICATIONS", rows)
    return build


def test_sound_files_of_keras_pass(tiny, tmp_path):
    tiny().save_weights(tmp_path / "net.weights.h5")
    tiny().save(tmp_path / "net.keras")
    for name in ("net.weights.h5", "net.keras"):
        found = keras_applications.stored_weights("tiny", str(tmp_path / name), 3)
        assert "Tiny/conv/weights" in found


def test_damage_in_an_h5_file_is_a_line(tiny, tmp_path):
    path = tmp_path / "net.weights.h5"
    tiny().save_weights(path)
    sound = path.read_bytes()
    for mark in (b"HEAP", b"TREE", b"SNOD"):
        place = sound.index(mark)
        path.write_bytes(sound[:place] + b"oops" + sound[place + 4 :])
        with pytest.raises(InputError, match="is no file of weights that Keras can read"):
            keras_applications.stored_weights("tiny", str(path), 3)


def test_hdf5_loads_no_plug_ins(tmp_path):
    """At a damaged file it opened each library in the folder `disable` of the working folder."""
    h5py.h5pl.append(os.fsencode(tmp_path))
    (tmp_path / "net.weights.h5").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="it is damaged"):
        keras_files.check(str(tmp_path / "net.weights.h5"))
    assert h5py.h5pl.size() == 0


@pytest.mark.parametrize("kind", ["external link", "soft link", "external", "virtual", "huge"])
def test_an_h5_file_that_leads_elsewhere_or_asks_for_much(tiny, tmp_path, kind):
    path, secret = tmp_path / "net.weights.h5", tmp_path / "secret.h5"
    tiny().save_weights(path)
    shutil.copy(path, secret)
    with h5py.File(path, "a") as file:
        if kind == "external link":
            file["x"] = h5py.ExternalLink(str(secret), "/layers")
        elif kind == "soft link":
            file["x"] = h5py.SoftLink("/layers")
        elif kind == "external":
            file.create_dataset("x", (4,), "f4", external=[(str(secret), 0, 16)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((4,), "f4")
            layout[:] = h5py.VirtualSource(str(secret), "y", (4,))
            file.create_virtual_dataset("x", layout)
        else:
            file.create_dataset("x", (1 << 30,), "f4", chunks=(1 << 20,))
    reason = {"huge": "bytes of numbers in a file of"}.get(kind, "x is (a link|kept)")
    with pytest.raises(InputError, match=f"Keras can read: .*{reason}"):
        keras_applications.stored_weights("tiny", str(path), 3)


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_any_damage_is_one_kind_of_error(tiny, tmp_path, ending):
    """h5py and zipfile raise a dozen kinds."""
    path, refused = tmp_path / f"net{ending}", 0
    (tiny().save if ending == ".keras" else tiny().save_weights)(path)
    sound = path.read_bytes()
    for place in range(0, len(sound), 97):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 0xFF]) + sound[place + 1 :])
        try:
            keras_files.check(str(path))
        except ValueError:
            refused += 1
    assert refused > 10
