"""Both versions of checkpoints, as numbers: what TensorFlow wrote, and damaged ones."""

import pathlib
import struct

import numpy as np
import pytest
import tensorflow as tf

from foundation.errors import InputError
from nets import checkpoints
from nets.checkpoints import formats, tables
from tests.fuzzing import tables as made

SLIM = pathlib.Path(__file__).parent / "fixtures" / "slim_parity" / "checkpoints"
_RNG = np.random.default_rng(0)
LONG = _RNG.normal(size=(300, 5)).astype(np.float32)
COUNTS = _RNG.integers(-9, 9, (20_000, 3))
WHOLE = {
    "int32": np.int32(-5),
    "float64": np.float64(2.5),
    "flags": np.array([True, False]),
    "uint8": np.arange(4, dtype=np.uint8),
    "é\x01": LONG,
    "none": np.zeros((0, 3), np.float32),
}
# Name → value and, for each piece, what is saved under which specification.
PIECES = {
    "a/part": (LONG, [("300 5 0,100:-", LONG[:100]), ("300 5 100,200:-", LONG[100:])]),
    "counts": (
        COUNTS,
        [("20000 3 0,9000:0,3", COUNTS[:9000]), ("20000 3 9000,11000:0,3", COUNTS[9000:])],
    ),
}
SPECS = [(name, "", value) for name, value in WHOLE.items()]
SPECS += [(name, spec, part) for name, (_, parts) in PIECES.items() for spec, part in parts]
EXPECTED = WHOLE | {name: value for name, (value, _) in PIECES.items()}


def saved(folder, version, more=()):
    prefix = str(folder / "model.ckpt-7")
    names, specs, values = zip(*SPECS, *more, strict=True)
    tensors = [tf.constant(value) for value in values]
    if version == 1:
        tf.raw_ops.SaveSlices(
            filename=prefix, tensor_names=names, shapes_and_slices=specs, data=tensors
        )
    else:
        tf.raw_ops.SaveV2(
            prefix=prefix, tensor_names=names, shape_and_slices=specs, tensors=tensors
        )
    return prefix


@pytest.mark.parametrize("version", [1, 2])
def test_what_tensorflow_wrote_is_read(tmp_path, version):
    reader = checkpoints.read(saved(tmp_path, version))
    assert set(reader.names) == set(EXPECTED)
    for name, value in EXPECTED.items():
        found = reader.get(name)
        assert (reader.shapes[name], reader.dtypes[name]) == (value.shape, value.dtype.name)
        assert found.dtype == value.dtype
        np.testing.assert_array_equal(found, value)


def test_half_precision_and_texts_of_v2(tmp_path):
    half = tf.cast(LONG, tf.bfloat16)
    more = [("bf", "", half), ("fp", "", np.float16(LONG)), ("text", "", np.array([b"a", b"bc"]))]
    reader = checkpoints.read(saved(tmp_path, 2, more))
    np.testing.assert_array_equal(reader.get("bf"), half.numpy())
    np.testing.assert_array_equal(reader.get("fp"), np.float16(LONG))
    assert (reader.shapes["text"], reader.dtypes["text"]) == ((2,), "string")
    with pytest.raises(InputError, match="the type string, which are no numbers"):
        reader.get("text")


@pytest.mark.parametrize(
    "path",
    ["train_dir/model.ckpt-3", *(f"zoo_v{i}/mobilenet_v1_0.25_128.ckpt" for i in (1, 2))],
)
def test_tf_slims_own_are_read_as_tensorflow_reads_them(path):
    ours, theirs = formats.opened(str(SLIM / path)), tf.train.load_checkpoint(str(SLIM / path))
    assert {name: list(one.shape) for name, one in ours.tensors.items()} == (
        theirs.get_variable_to_shape_map()
    )
    for name in ours.tensors:
        np.testing.assert_array_equal(ours.get(name), theirs.get_tensor(name))


def test_keys_of_pieces_are_in_tensorflows_order(tmp_path):
    """Numbers of each length: the extents of this tensor are of all of them."""
    side = 1 << 22
    starts = [0, 1, 63, 64, 8191, 8192, 1 << 20, (1 << 21) - 1, side - 1]
    value = np.arange(side, dtype=np.int32) % 251
    more = [
        ("long", f"{side} {start},{end - start}", value[start:end])
        for start, end in zip(starts, [*starts[1:], side], strict=True)
    ]
    reader = checkpoints.read(saved(tmp_path, 2, more))
    np.testing.assert_array_equal(reader.get("long"), value)


# Damage that checksums don't show


def entry(**changes):
    from tensorflow.core.protobuf import tensor_bundle_pb2

    found = tensor_bundle_pb2.BundleEntryProto(dtype=1, size=8, crc32c=CRC)
    found.shape.dim.add(size=2)
    for name, value in changes.items():
        if name == "shape":
            del found.shape.dim[:]
            for size in value:
                found.shape.dim.add(size=size)
        else:
            setattr(found, name, value)
    return found.SerializeToString()


def header(shards=1):
    return b"\x08" + bytes([shards])


VALUES = struct.pack("<ff", 1, 2)
CRC = tables.checksum(VALUES)


def v2(folder, pairs):
    (folder / "model.ckpt-7.index").write_bytes(made.table(pairs))
    (folder / "model.ckpt-7.data-00000-of-00001").write_bytes(VALUES)
    return checkpoints.read(str(folder))


def test_a_table_of_our_own_is_read(tmp_path):
    assert v2(tmp_path, [(b"", header()), (b"w", entry())]).get("w").tolist() == [1, 2]


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([(b"", header()), (b"w", entry(shape=[-2]))], "a shape that is not known"),
        ([(b"", header()), (b"w", entry(shape=[1 << 40, 1 << 40]))], "another size"),
        ([(b"", header()), (b"w", entry(size=1 << 62, shape=[1 << 60]))], "cut short"),
        ([(b"", header()), (b"w", entry(offset=-8))], "cut short"),
        ([(b"", header()), (b"w", entry(offset=4))], "cut short"),
        ([(b"", header()), (b"w", entry(crc32c=1))], "checksum is wrong"),
        ([(b"", header()), (b"w", entry(dtype=0))], "a tensor of no type"),
        ([(b"", header()), (b"w", entry(dtype=7))], "which are no numbers"),
        ([(b"", header()), (b"w", entry(dtype=20))], "resource, which are no numbers"),
        ([(b"", header()), (b"w", entry(shape=[1] * 40))], "a tensor of 40 dimensions"),
        ([(b"", header()), (b"\xff", entry())], "a name that is no text"),
        ([(b"", header()), (b"w", b"\x0a")], "cut short"),
        ([(b"", header()), (b"w", b"\x0b")], "a field of kind 3"),
        ([(b"w", entry())], "in how many shards"),
        ([(b"w", entry()), (b"", header())], "keys are not in order"),
        ([(b"", header()), (b"w", entry()), (b"w", entry())], "keys are not in order"),
    ],
)
def test_what_a_damaged_index_says_is_not_believed(tmp_path, pairs, reason):
    with pytest.raises(InputError, match=f"not a checkpoint, or a damaged .*{reason}"):
        v2(tmp_path, pairs).get("w")


def test_pieces_that_are_not_the_whole_are_missed(tmp_path):
    from tensorflow.core.protobuf import tensor_bundle_pb2

    found = tensor_bundle_pb2.BundleEntryProto.FromString(entry(shape=[4]))
    found.slices.add().extent.add(start=0, length=2)
    pairs = [(b"", header()), (tables.slice_key("w", ((0, 2),)), entry())]
    pairs.append((b"w", found.SerializeToString()))
    with pytest.raises(InputError, match="pieces are missing"):
        v2(tmp_path, pairs).get("w")
    found.slices.add().extent.add(start=2, length=2)
    with pytest.raises(InputError, match="a piece of w is missing"):
        v2(tmp_path, [*pairs[:2], (b"w", found.SerializeToString())]).get("w")
    found.slices[1].extent[0].start = 3
    with pytest.raises(InputError, match="outside of its tensor"):
        v2(tmp_path, [*pairs[:2], (b"w", found.SerializeToString())]).get("w")


def test_an_index_whose_blocks_lead_round_and_round(tmp_path):
    index = made.table([(b"", header()), (b"w", entry())])
    assert made.entries(index) == [(b"", header()), (b"w", entry())]
    (tmp_path / "model.ckpt-7.index").write_bytes(index[:-48] + b"\xff" * 40 + index[-8:])
    with pytest.raises(InputError, match="not a checkpoint, or a damaged"):
        checkpoints.read(str(tmp_path))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("step", [np.complex64(1j), np.float32(np.nan), np.array([1, 2])])
def test_a_step_that_is_no_number_is_refused(tmp_path, version, step):
    reader = checkpoints.read(saved(tmp_path, version, [("global_step", "", step)]))
    with pytest.raises(InputError, match="its global_step is no number|a damaged one"):
        checkpoints.global_step(reader)


def test_a_shape_without_places_that_is_too_large_all_the_same_is_refused():
    shape = tf.TensorShape((0, 1 << 40, 1 << 40)).as_proto().SerializeToString()
    with pytest.raises(formats.Damaged, match="a shape that no array has"):
        formats._shape(memoryview(shape))


def test_numbers_of_a_type_that_goes_with_no_other_come_in_parts():
    """Found by fuzzing: such as an eight-bit float of XLA's."""
    from tensorflow.core.framework import tensor_pb2

    kind = np.dtype(tf.dtypes.experimental.float8_e4m3b11fnuz.as_numpy_dtype)
    tensors = [tensor_pb2.TensorProto(float_val=[x]).SerializeToString() for x in (1.0, 2.0)]
    found = formats._values(memoryview(b"".join(tensors)), kind)
    assert found.dtype == kind and found.astype(np.float32).tolist() == [1, 2]
