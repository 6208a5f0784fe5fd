"""What training, evaluation, export and the demo read of strangers: with TensorFlow."""

import contextlib
import functools
import gzip
import io
import json
import os
import pathlib
import struct
import tarfile
import zipfile
import zlib
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from hypothesis import strategies as st
from PIL import Image
from tensorflow.core.protobuf import tensor_bundle_pb2
from tensorflow.core.util import saved_tensor_slice_pb2

from datasets import bad_records, batches, schema, tfrecord_dataset
from foundation.errors import InputError
from nets import checkpoints, keras_applications, keras_files, nets_factory
from nets.keras_applications import Application
from runs import checks, classifiers, preparation, web_demo
from runs import config as run_config
from runs.options import OpenOptions, WebDemoOptions
from serving import classifier, export_config
from serving.demo import page, server
from tests import tiny_net
from tests.fuzzing import data_targets, mutations, tables
from tests.fuzzing.workers import Read, Target

LABELS = ("cat", "dog", "emu")
# What takes long, such as building a net or a pipeline, is done with one input in so many.
_SELDOM = 16


def _silent(line: str) -> None:
    pass


def _is_picked(data: bytes, number: int = 0) -> bool:
    return zlib.crc32(data) % _SELDOM == number


# Records


def _example(encoded: bytes = b"", **changes) -> bytes:
    given = {"image_format": "png", "height": 16, "width": 24, "label": 1, "text": "dog"}
    given |= {"filename": "a.png", "boxes": (schema.Box(0.1, 0.1, 0.9, 0.9),), "sha256": "0"}
    return schema.Example(
        encoded or data_targets.picture("PNG"), **{**given, **changes}
    ).serialize()


def _records_reader(folder: pathlib.Path):
    place = folder / "pets_train-00000-of-00001.tfrecord"

    def decode(encoded):
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        return tf.image.resize(tf.cast(image, tf.float32), [8, 8])

    def read(data: bytes) -> None:
        place.write_bytes(data)
        for known in folder.glob(".record_*.json"):
            known.unlink()
        (folder / "labels.txt").write_text("cat\ndog\n")
        if _is_picked(data, 1):  # the names are then those of the records
            (folder / "labels.txt").unlink()
        dataset = tfrecord_dataset.find(str(folder))
        if not _is_picked(data, 2):
            bad_records.summary(bad_records.find(dataset, num_threads=1))
        else:
            without, bad = bad_records.drop(dataset, 100, num_threads=1)
            bad_records.summary(bad)
            ds = batches.evaluation_batches(without, decode, 2, num_threads=1)
            batches.explained(without, lambda: list(ds))

    return read


def _tfrecord(folder: pathlib.Path) -> tuple[list[bytes], Read]:
    sound = b"".join(schema.frame(_example(label=i % 2, text="")) for i in range(3))
    return [sound, gzip.compress(sound)], _records_reader(folder)


def _tfrecords_mended(data: bytes) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return mutations.records_mended(data)
    try:
        plain = gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return data
    return gzip.compress(mutations.records_mended(plain[: mutations.MOST_BYTES]), 1)


def _examples(folder: pathlib.Path) -> tuple[list[bytes], Read]:
    """One tf.Example, in a file that is sound."""
    read_file = _records_reader(folder)
    sound = [_example(one) for one in data_targets.pictures()[:11]]
    frames = schema.frame(_example())

    def read(data: bytes) -> None:
        schema.is_for_detection(data)
        schema.encoded_image(data)
        read_file(frames + schema.frame(data))

    for one in sound:
        read(one)
    return sound, read


def _features() -> st.SearchStrategy[bytes]:
    names = st.sampled_from(
        (
            *("image/encoded", "image", "image_raw", "image/format", "image/class/label", "label"),
            *("image/class/text", "image/filename", "image/object/bbox/ymin", "objects/bbox"),
            *("image/object/bbox/xmax", "bbox", "image/object/class/label", "", "é"),
        )
    )
    picture = st.sampled_from([data_targets.picture("PNG"), data_targets.picture("GIF", "P")])
    values = st.one_of(
        st.lists(st.one_of(picture, st.binary(max_size=20)), max_size=3).map(
            lambda v: tf.train.Feature(bytes_list=tf.train.BytesList(value=v))
        ),
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3).map(
            lambda v: tf.train.Feature(int64_list=tf.train.Int64List(value=v))
        ),
        st.lists(st.floats(width=32), max_size=8).map(
            lambda v: tf.train.Feature(float_list=tf.train.FloatList(value=v))
        ),
        st.just(tf.train.Feature()),
    )

    def record(parts) -> bytes:
        features, usual = parts
        example = tf.train.Example(features=tf.train.Features(feature=features))
        return (_example() if usual else b"") + example.SerializeToString()

    return st.tuples(st.dictionaries(names, values, max_size=6), st.booleans()).map(record)


# Checkpoints


def _values() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "global_step": np.int64(7),
        "LeNet/conv1/weights": rng.normal(size=(3, 3, 1, 2)).astype(np.float32),
        "LeNet/conv1/biases": np.zeros(2, np.float32),
        "LeNet/fc4/weights": rng.normal(size=(4, 2)).astype(np.float16),
    }


def _read_all(path: pathlib.Path) -> None:
    """All that is in a checkpoint; the first refusal is raised when everything was asked for."""
    reader, refused = checkpoints.read(str(path)), []
    for ask in (
        lambda: checkpoints.global_step(reader),
        *(functools.partial(reader.get, name) for name in reader.names[:50]),
    ):
        try:
            ask()
        except InputError as error:
            refused.append(error)
    if refused:
        raise refused[0]


_V2 = ("model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001")


def _blob(index: bytes, data: bytes) -> bytes:
    """Both files of a V2 checkpoint as one."""
    return struct.pack("<I", len(index)) + index + data


def _sound_v2(folder: pathlib.Path) -> tuple[bytes, bytes]:
    tf.raw_ops.SaveV2(
        prefix=str(folder / "model.ckpt-7"),
        tensor_names=list(_values()),
        shape_and_slices=[""] * len(_values()),
        tensors=[tf.constant(value) for value in _values().values()],
    )
    return tuple((folder / name).read_bytes() for name in _V2)


def _v2(folder: pathlib.Path) -> tuple[list[bytes], Read]:
    index, values = _sound_v2(folder)

    def read(data: bytes) -> None:
        end = 4 + int.from_bytes(data[:4], "little")
        for name, part in zip(_V2, (data[4:end], data[end:]), strict=True):
            (folder / name).write_bytes(part)
        _read_all(folder)

    return [_blob(index, values), _blob(tables.table(tables.entries(index)), values)], read


def _v2_mended(data: bytes) -> bytes:
    end = 4 + int.from_bytes(data[:4], "little")
    return data[:4] + tables.mended(data[4:end]) + data[end:]


_NUMBERS = st.one_of(
    st.integers(-2, 40),
    st.sampled_from((2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**31), -(2**63), 1 << 40)),
)
_INT32 = _NUMBERS.map(lambda n: (n + 2**31) % 2**32 - 2**31)
_KEYS = st.sampled_from((b"", b"a", b"global_step", b"b/weights", b"\xff", b"\0", b"_CHECKPOINT"))


def _slices() -> st.SearchStrategy:
    """Extents of a slice."""

    def proto(extents):
        from tensorflow.core.framework import tensor_slice_pb2

        found = tensor_slice_pb2.TensorSliceProto()
        for start, length in extents:
            extent = found.extent.add(start=start)
            if length is not None:
                extent.length = length
        return found

    return st.lists(st.tuples(_NUMBERS, st.none() | _NUMBERS), max_size=3).map(proto)


def _shape(sizes, unknown: bool):
    shape = tf.TensorShape([]).as_proto()
    for size in sizes:
        shape.dim.add(size=size)
    shape.unknown_rank = unknown
    return shape


_SHAPES = st.builds(_shape, st.lists(_NUMBERS, max_size=9), st.sampled_from((False, False, True)))
# Those that TensorFlow knows, and the numbers next to them.
_TYPES = st.one_of(st.sampled_from((1, 1, 3, 7, 9)), st.integers(-1, 140))


def _indexes() -> st.SearchStrategy[bytes]:
    """V2's table with fields of any value, and 64 bytes that it is about."""

    def entry(dtype, shape, shard, offset, size, crc, slices):
        found = tensor_bundle_pb2.BundleEntryProto()
        found.ParseFromString(b"\x08" + _varint(dtype))
        found.shape.CopyFrom(shape)
        found.shard_id, found.offset, found.size, found.crc32c = shard, offset, size, crc
        found.slices.extend(slices)
        return found.SerializeToString()

    entries = st.builds(
        entry,
        *(_TYPES, _SHAPES, st.just(0) | _INT32, st.sampled_from((0, 0, 4)) | _NUMBERS),
        *(st.sampled_from((0, 4, 8, 64)) | _NUMBERS, st.integers(0, 2**32 - 1)),
        st.lists(_slices(), max_size=2),
    )
    header = st.builds(
        lambda shards, order, version: tensor_bundle_pb2.BundleHeaderProto(
            num_shards=shards, endianness=order, version={"producer": version}
        ).SerializeToString(),
        *(st.just(1) | _INT32, st.sampled_from((0, 0, 0, 1)), st.just(1) | _INT32),
    )
    pairs = st.lists(st.tuples(_KEYS, entries | st.binary(max_size=30)), max_size=4)

    def blob(parts):
        first, others, ordered = parts
        known = {b"": first, **dict(others)} if ordered else dict([*others, (b"", first)])
        rows = sorted(known.items()) if ordered else list(known.items())
        return _blob(tables.table(rows), bytes(64))

    return st.tuples(header, pairs, st.sampled_from((True, True, True, False))).map(blob)


def _varint(value: int) -> bytes:
    return tf.train.Int64List(value=[value]).SerializeToString()[2:]


def _v1(folder: pathlib.Path) -> tuple[list[bytes], Read]:
    place = folder / "model.ckpt-7"
    tf.raw_ops.Save(
        filename=str(place),
        tensor_names=list(_values())[:3],
        data=[tf.constant(value) for value in list(_values().values())[:3]],
    )
    sound = place.read_bytes()

    def read(data: bytes) -> None:
        place.write_bytes(data)
        _read_all(place)

    return [sound, tables.table(tables.entries(sound))], read


def _slice_tables() -> st.SearchStrategy[bytes]:
    """V1's table with fields of any value."""

    def meta(name, shape, dtype, slices):
        found = saved_tensor_slice_pb2.SavedSliceMeta(name=name)
        found.MergeFromString(b"\x18" + _varint(dtype))
        found.shape.CopyFrom(shape)
        found.slice.extend(slices)
        return found

    metas = st.builds(
        meta, st.sampled_from(("a", "b", "")), _SHAPES, _TYPES, st.lists(_slices(), max_size=3)
    )

    def value(name, where, dtype, floats, integers, text):
        found = saved_tensor_slice_pb2.SavedTensorSlices()
        found.data.name = name
        found.data.slice.CopyFrom(where)
        found.data.data.MergeFromString(b"\x08" + _varint(dtype))
        found.data.data.float_val.extend(floats)
        found.data.data.int64_val.extend(integers)
        found.data.data.tensor_content = text
        return found.SerializeToString()

    values = st.builds(
        value,
        *(st.sampled_from(("a", "b", "")), _slices(), _TYPES, st.lists(st.just(1.0), max_size=9)),
        *(st.lists(st.integers(0, 9), max_size=9), st.binary(max_size=9)),
    )

    def whole(parts):
        found, rows, version = parts
        head = saved_tensor_slice_pb2.SavedTensorSlices()
        head.meta.tensor.extend(found)
        head.meta.versions.producer = version
        keys = [_key(one) for one in found for _ in one.slice]
        pairs = {b"": head.SerializeToString(), **dict(zip(keys, rows, strict=False))}
        return tables.table(sorted(pairs.items()))

    return st.tuples(st.lists(metas, max_size=3), st.lists(values, max_size=4), _INT32).map(whole)


def _key(meta) -> bytes:
    """V1's key of the first slice of a tensor (tensorflow/core/util/saved_tensor_slice_util.cc)."""

    def ordered(number: int) -> bytes:  # OrderedCode, of small numbers
        return bytes([0x80 + number]) if -64 <= number < 64 else b"\xff" * 4

    found = b"\0" if not meta.name else b"\x00" + meta.name.encode() + b"\x00\x01"
    extents = meta.slice[0].extent
    found = b"\0" + meta.name.encode() + b"\0\x01" + b"\x01" + bytes([len(extents)])
    for extent in extents:
        found += ordered(extent.start) + ordered(extent.length or -1)
    return found


def _archives(folder: pathlib.Path) -> tuple[list[bytes], Read]:
    index, values = _sound_v2(folder)

    def archive(mode: str, **members: bytes) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as tar:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return buffer.getvalue()

    names = ("some/folder/model.ckpt-7.index", "../../outside/model.ckpt-7.data-00000-of-00001")
    members = dict(zip(names, (index, values), strict=True))
    for name in _V2:
        (folder / name).unlink()

    def read(data: bytes) -> None:
        path = folder / "zoo.tar.gz"
        path.write_bytes(data)
        _read_all(path)

    return [archive(mode, **members) for mode in ("w", "w:gz", "w:bz2", "w:xz")], read


def _archives_mended(data: bytes) -> bytes:
    """A tar, compressed or not, with the right checksum in every header."""
    if data.startswith(b"\x1f\x8b"):
        try:
            return gzip.compress(_archives_mended(gzip.decompress(data)), 1)
        except (OSError, EOFError, zlib.error):
            return data
    found = bytearray(data)
    for start in range(0, len(found) - 511, 512):
        block = found[start : start + 512]
        if any(block[:100]) and block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            found[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    return bytes(found)


def _tars() -> st.SearchStrategy[bytes]:
    kinds = st.sampled_from(
        (tarfile.REGTYPE, tarfile.REGTYPE, *b"1 2 3 5 6 7 L K x g S".split(), tarfile.AREGTYPE)
    )
    names = st.sampled_from(
        (
            *("model.ckpt", "../outside/x.ckpt", "/tmp/x.ckpt", "a/model.ckpt-7.index", ".ckpt"),
            *("..\\x.ckpt", "model.ckpt-7.data-00000-of-00001", "x" * 300 + ".ckpt", "\0.ckpt"),
        )
    )
    members = st.tuples(names, kinds, st.integers(0, 600), st.none() | _NUMBERS, names)

    def archive(parts) -> bytes:
        found = b""
        for name, kind, length, stated, link in parts:
            info = tarfile.TarInfo(name[:100])
            info.type, info.linkname, info.size = kind, link[:100], length
            header = bytearray(info.tobuf(tarfile.GNU_FORMAT)[-512:])
            if stated is not None:  # base 256, so that it may be negative or huge
                header[124:136] = b"\xff" * 4 + (stated % 2**64).to_bytes(8, "big")
                header[124] = 0xFF if stated < 0 else 0x80
                header[125:128] = b"\xff" * 3 if stated < 0 else b"\0" * 3
            found += bytes(header) + b"7 a=b\n\0".ljust(-(-length // 512) * 512, b"1")
        return _archives_mended(found + bytes(1024))

    return st.lists(members, min_size=1, max_size=4).map(archive)


# Keras's files


def _tiny(weights=None, classes=3, include_top=True, classifier_activation=None, **options):
    """A net small enough to be built for each input."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(2, 3, name="conv")(images)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    if include_top:
        x = keras.layers.Dense(classes, name="predictions")(x)
    return keras.Model(images, x, name="tiny")


def _keras_reader(folder: pathlib.Path, name: str) -> Read:
    keras.applications.Tiny = _tiny
    keras_applications.APPLICATIONS["tiny"] = Application("Tiny", 8)
    secret = folder.parent / "outside" / "secret.h5"
    _tiny().save_weights(folder / "secret.weights.h5")
    os.rename(folder / "secret.weights.h5", secret)

    def read(data: bytes) -> None:
        path = folder / name
        path.write_bytes(data)
        try:
            keras_files.check(str(path))
        except ValueError:
            if not _is_picked(data):
                return
        keras.backend.clear_session()
        keras_applications.stored_weights("tiny", str(path), len(LABELS))

    return read


def _saved(folder: pathlib.Path, model: keras.Model, name: str) -> bytes:
    method = model.save_weights if name.endswith(".weights.h5") else model.save
    method(folder / name)
    return (folder / name).read_bytes()


def _h5(folder: pathlib.Path) -> tuple[list[bytes], Read]:
    sound = [_saved(folder, _tiny(), "sound.weights.h5")]
    return sound, _keras_reader(folder, "net.weights.h5")


def _keras(folder: pathlib.Path) -> tuple[list[bytes], Read]:
    sound = [_saved(folder, _tiny(), "sound.keras")]
    sequential = keras.Sequential([_tiny(include_top=False), keras.layers.Dense(2)])
    return [*sound, _saved(folder, sequential, "own.keras")], _keras_reader(folder, "net.keras")


def _zip_mended(data: bytes) -> bytes:
    """A zip of the parts that can be found, with their checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        position = 0
        while (position := data.find(b"PK\x03\x04", position)) >= 0:
            header = data[position : position + 30]
            if len(header) < 30:
                break
            size, _, name_length, more = struct.unpack("<IIHH", header[18:30])
            start = position + 30 + name_length + more
            name = data[position + 30 : position + 30 + name_length].decode(errors="replace")
            end = data.find(b"PK\x03\x04", start)
            part = data[start : start + size] or data[start : end if end > 0 else len(data)]
            with contextlib.suppress(ValueError, struct.error):  # a name that is too long
                made.writestr(zipfile.ZipInfo(name.replace("\0", "") or "x"), part)
            position = start
    return buffer.getvalue()


# What a run and an export say of themselves


def _changed_documents(sound: dict) -> st.SearchStrategy[bytes]:
    """A document of which some values are others, or gone, or of which there are more."""
    paths = [
        (name,) if inner is None else (name, inner)
        for name, value in sound.items()
        for inner in (None, *(value if isinstance(value, dict) else ()))
    ]
    strange = st.sampled_from(
        (*data_targets.NAMES, *data_targets.CLASSES, -1, 0, 1e308, 2**63, [], {}, None, True)
    )
    changes = st.lists(
        st.tuples(st.sampled_from(paths), st.none() | strange | data_targets.documents()),
        min_size=1,
        max_size=3,
    )

    def document(parts) -> bytes:
        found = json.loads(json.dumps(sound))
        for (first, *rest), value in parts:
            place = found[first] if rest and isinstance(found.get(first), dict) else found
            name = rest[0] if rest else first
            if value is None:
                place.pop(name, None)
            else:
                place[name] = value
        return json.dumps(found).encode()

    return changes.map(document)


_RUN = run_config.RunConfig(
    model_name="lenet",
    num_classes=len(LABELS),
    labels=LABELS,
    image_size=4,
    preprocessing_name="lenet",
    dataset_dir="/data/animals",
    dataset_name="animals",
    dataset_split_name="train",
    tfrecord_file="a.tfrecord,b.tfrecord",
    path_to_csv="a.csv",
    net_options={"dropout_keep_prob": 0.5},
    preprocessing_options={"fit": "letterbox", "normalization": "zca", "zca_file": "zca_1.npz"},
    flags={"train_dir": "/runs/1", "learning_rate": 0.1},
    temperature={"value": 1.5, "checkpoint": "model.ckpt-7"},
    trained={"seconds": 3.0, "images": 100},
)


def _run_document() -> dict:
    import dataclasses

    return {"format": 1, **dataclasses.asdict(_RUN), "labels": list(LABELS)}


def _run_json(folder: pathlib.Path) -> tuple[list[bytes], Read]:
    tiny_net.train(folder, LABELS)
    sound = [(folder / "run.json").read_bytes(), json.dumps(_run_document()).encode()]
    earlier = pathlib.Path(__file__).parent.parent / "fixtures" / "files" / "run_format_1.json"
    sound.append(earlier.read_bytes().replace(b"zca_0a1b2c3d.npz", b"zca_1.npz"))
    given = OpenOptions()
    (folder / "zca_1.npz").write_bytes(_whitening())
    (folder.parent / "outside" / "zca_1.npz").write_bytes(_whitening())

    def read(data: bytes) -> None:
        (folder / "run.json").write_bytes(data)
        config = checks.known_run(str(folder), given)
        nets_factory.get(config.model_name)
        preparation.recipe_of(config, functools.partial(os.path.join, str(folder)))
        str(config.labels).encode(), "\n".join(config.labels).encode()
        run_config.save(str(folder), config)

    return sound, read


def _whitening() -> bytes:
    buffer = io.BytesIO()
    numbers = {"mean": np.zeros(48, np.float32), "matrix": np.eye(48, dtype=np.float32)}
    np.savez(buffer, size=4, **numbers)
    return buffer.getvalue()


def _export_json(folder: pathlib.Path) -> tuple[list[bytes], Read]:
    from runs.export import export
    from runs.options import ExportModelOptions

    (folder / "train").mkdir()
    tiny_net.train(folder / "train", LABELS)
    made = folder / "export"
    export(
        ExportModelOptions.of(
            checkpoint_path=str(folder / "train"), output_dir=str(made), formats=["frozen_graph"]
        ),
        _silent,
    )
    place = made / export_config.FILE_NAME
    sound, picture = place.read_bytes(), tiny_net.picture(0)

    def read(data: bytes) -> None:
        place.write_bytes(data)
        classifier.config_of(str(made))
        classifier.model_file(str(made))
        assert isinstance(export_config.load(str(place)).companions, tuple)
        opened = classifier.load(str(made), classifiers._recipe)
        opened.classify([picture])

    return [sound], read


# The demo's upload


def _upload(folder: pathlib.Path) -> tuple[list[bytes], Read]:
    (folder / "train").mkdir()
    tiny_net.train(folder / "train", LABELS)
    options = WebDemoOptions.of(
        model=str(folder / "train"),
        feedback_dir=str(folder / "feedback"),
        max_megapixels=1.0,
    )
    made = []
    with mock.patch.object(server, "prepare", lambda demo, given: made.append(demo)):
        web_demo.prepare(options, _silent)
    (demo,) = made

    def read(data: bytes) -> None:
        path = folder / "upload"
        path.write_bytes(data)
        try:
            answer = demo.answer(data)
            assert len(answer.classes) == len(LABELS)
            if answer.heat is not None:
                Image.fromarray(answer.heat)
            demo.keep(data, "cat")
        except page.Refused as error:
            str(error).encode(errors="replace")
        if _is_picked(data):
            demo.table({"../<b>.png": str(path)})
        for kept in (folder / "feedback" / "images").iterdir():
            kept.unlink()
        (folder / "feedback" / "labels.csv").unlink(missing_ok=True)

    return data_targets.pictures(), read


TARGETS = {
    "tfrecord": Target(_tfrecord, mend=_tfrecords_mended),
    "example": Target(_examples, _features, words=data_targets.PICTURE_WORDS),
    "checkpoint_v2": Target(_v2, _indexes, mend=_v2_mended),
    "checkpoint_v1": Target(_v1, _slice_tables, mend=tables.mended),
    "archive": Target(_archives, _tars, mend=_archives_mended),
    "h5": Target(_h5),
    "keras": Target(_keras, mend=_zip_mended),
    "run_json": Target(_run_json, lambda: _changed_documents(_run_document())),
    "export_json": Target(_export_json),
    "upload": Target(_upload, mend=mutations.png_mended, words=data_targets.PICTURE_WORDS),
}
