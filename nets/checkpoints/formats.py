"""Both versions of checkpoints, read as numbers: nothing in them is believed before it is checked.

V2 is an index, `PREFIX.index`, and shards of values (tensorflow/core/protobuf/tensor_bundle.proto);
V1 one file for all (tensorflow/core/util/saved_tensor_slice.proto). Where TensorFlow's own reader
ends the process, or takes what a damaged file says for true, these raise Damaged.
"""

import dataclasses
import math
import os
import struct
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence

import google_crc32c
import numpy as np
import tensorflow as tf

from nets.checkpoints import find
from nets.checkpoints.tables import Damaged, Table, fields, signed, slice_key, text, varint

_MOST_PLACES = 1 << 58  # NumPy counts an array's bytes in 63 bits, empty sides as one
_MOST_DIMENSIONS = 16
# Fields of tensorflow/core/framework/tensor.proto: numbers of so many bytes, or varints.
_FIXED, _VARINTS = {5: "<f4", 6: "<f8"}, {7, 10, 11}

# Start and length in each dimension; a length of -1 is the whole dimension.
Extents = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Stored:
    """A tensor of a checkpoint.

    Attributes:
      shape: of the whole tensor.
      dtype: its type.
      pieces: that it is stored in; () where it is stored as a whole, in V2.
      place: in V2, number of the shard, first byte, number of bytes, and CRC-32C.
    """

    shape: tuple[int, ...]
    dtype: tf.DType
    pieces: tuple[Extents, ...] = ()
    place: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


def opened(prefix: str) -> "V1 | V2":
    """The checkpoint of this path without endings; raises Damaged or OSError."""
    return V1(prefix) if find.first_file(prefix) == prefix else V2(prefix)


class V2:
    """An index, and shards that are opened for each value.

    Attributes:
      tensors: what is in it, by name.
    """

    def __init__(self, prefix: str):
        """Reads the index; raises Damaged or OSError."""
        self._prefix = prefix
        with open(f"{prefix}.index", "rb") as file:
            entries = dict(Table(file).items())
        header = dict(fields(entries.pop(b"", memoryview(b""))))
        self._num_shards, self._swapped = header.get(1, 0), bool(header.get(2, 0))
        if not isinstance(self._num_shards, int) or not self._num_shards:
            raise Damaged("it does not say in how many shards it is")
        self._entries = {key: _entry(value) for key, value in entries.items()}
        # A zero begins the keys of pieces.
        self.tensors: Mapping[str, Stored] = {
            text(memoryview(key)): one
            for key, one in self._entries.items()
            if not key.startswith(b"\0")
        }

    def get(self, name: str) -> np.ndarray:
        """A value; raises Damaged or OSError."""
        one = self.tensors[name]
        if not one.pieces:
            return self._read(one).reshape(one.shape)

        def piece(extents: Extents) -> np.ndarray:
            if not (found := self._entries.get(slice_key(name, extents))):
                raise Damaged(f"a piece of {name} is missing")
            return self._read(found)

        return _joined(one, piece)

    def _read(self, one: Stored) -> np.ndarray:
        shard, start, size, crc = one.place
        kind = _numbers(one.dtype)
        if size != one.size * kind.itemsize:
            raise Damaged("a value has another size than its shape")
        path = f"{self._prefix}.data-{shard:05}-of-{self._num_shards:05}"
        with open(path, "rb") as file:
            if start + size > os.fstat(file.fileno()).st_size:
                raise Damaged("it is cut short")
            file.seek(start)
            data = file.read(size)
        if len(data) < size:
            raise Damaged("it is cut short")
        if google_crc32c.value(data) != crc:
            raise Damaged("its checksum is wrong")
        found = np.frombuffer(data, kind)
        return found.byteswap() if self._swapped else found


class V1:
    """One file, which stays open.

    Attributes:
      tensors: what is in it, by name.
    """

    def __init__(self, path: str):
        """Reads what it says of itself; raises Damaged or OSError."""
        file = open(path, "rb")
        weakref.finalize(self, file.close)
        self._table = Table(file)
        whole = self._table.get(b"")
        if whole is None:
            raise Damaged("it does not say what is in it")
        self.tensors: Mapping[str, Stored] = dict(
            _meta(tensor) for meta in _all(whole, 1) for tensor in _all(meta, 1)
        )

    def get(self, name: str) -> np.ndarray:
        """A value; raises Damaged or OSError."""
        one = self.tensors[name]

        def piece(extents: Extents) -> np.ndarray:
            found = self._table.get(slice_key(name, extents))
            if found is None:
                raise Damaged(f"a piece of {name} is missing")
            for data in _all(found, 2):
                for tensor in _all(data, 3):
                    return _values(tensor, _numbers(one.dtype))
            raise Damaged(f"a piece of {name} has no values")

        return _joined(one, piece)


def _joined(one: Stored, piece: Callable[[Extents], np.ndarray]) -> np.ndarray:
    """A tensor from its pieces, which must be all of it."""
    parts = []
    for extents in one.pieces:
        if len(extents) != len(one.shape):
            raise Damaged("a piece has other dimensions than its tensor")
        ends = [
            (start, size if length == -1 else start + length)
            for (start, length), size in zip(extents, one.shape, strict=True)
        ]
        if any(
            not 0 <= start <= end <= size
            for (start, end), size in zip(ends, one.shape, strict=True)
        ):
            raise Damaged("a piece lies outside of its tensor")
        values, shape = piece(extents), [end - start for start, end in ends]
        if values.size != math.prod(shape):
            raise Damaged("a piece has another size than its shape")
        parts.append((tuple(slice(*pair) for pair in ends), values.reshape(shape)))
    if sum(values.size for _, values in parts) != one.size:
        raise Damaged("pieces are missing")
    if len(parts) == 1:
        return parts[0][1]
    found = np.zeros(one.shape, _numbers(one.dtype))
    for place, values in parts:
        found[place] = values
    return found


def _numbers(dtype: tf.DType) -> np.dtype:
    """NumPy's type for a tensor's; raises Damaged for those of texts and other things."""
    try:
        kind = np.dtype(dtype.as_numpy_dtype)
    except KeyError:  # such as a resource
        kind = None
    if kind is None or kind.hasobject:
        raise Damaged(f"values of the type {dtype.name}, which are no numbers")
    return kind


def _all(message: memoryview, wanted: int) -> Iterable[memoryview]:
    """The messages in the fields of a number."""
    return (v for number, v in fields(message) if number == wanted and isinstance(v, memoryview))


def _dtype(number: object) -> tf.DType:
    try:
        return tf.dtypes.as_dtype(number).base_dtype
    except TypeError as error:
        raise Damaged("a tensor of no type") from error


def _shape(message: memoryview) -> tuple[int, ...]:
    """A TensorShapeProto; raises Damaged where it is not known to the last side."""
    sides = [signed(_number(dict(fields(side)).get(1, 0))) for side in _all(message, 2)]
    if any(number == 3 and value for number, value in fields(message)) or min(sides, default=0) < 0:
        raise Damaged("a shape that is not known")
    if len(sides) > _MOST_DIMENSIONS:
        raise Damaged(f"a tensor of {len(sides)} dimensions")
    if 0 in sides and math.prod(side or 1 for side in sides) > _MOST_PLACES:
        raise Damaged("a shape that no array has")
    return tuple(sides)


def _extents(message: memoryview) -> Extents:
    """A TensorSliceProto."""
    found = []
    for one in _all(message, 1):
        known = dict(fields(one))
        start, length = (
            signed(_number(known.get(i, none))) for i, none in ((1, 0), (2, 2**64 - 1))
        )
        found.append((start, length))
    return tuple(found)


def _number(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise Damaged("bytes where a number belongs")
    return value


def _entry(message: memoryview) -> Stored:
    """A BundleEntryProto."""
    known = dict(fields(message))
    shape = known.get(2, memoryview(b""))
    crc = known.get(6, memoryview(bytes(4)))
    if not isinstance(shape, memoryview) or not isinstance(crc, memoryview) or len(crc) != 4:
        raise Damaged("a number where bytes belong")
    masked = struct.unpack("<I", crc)[0]
    # As checksum() masks it.
    turned = (masked - 0xA282EAD8) & 0xFFFFFFFF
    plain = (turned >> 17 | turned << 15) & 0xFFFFFFFF
    place = tuple(_number(known.get(i, 0)) for i in (3, 4, 5))
    return Stored(
        _shape(shape),
        _dtype(known.get(1, 0)),
        tuple(map(_extents, _all(message, 7))),
        (*place, plain),
    )


def _meta(message: memoryview) -> tuple[str, Stored]:
    """A SavedSliceMeta: the name, and what is known of the tensor."""
    known = dict(fields(message))
    shape = known.get(2, memoryview(b""))
    if not isinstance(shape, memoryview):
        raise Damaged("a number where bytes belong")
    pieces = tuple(map(_extents, _all(message, 4)))
    return text(known.get(1, memoryview(b""))), Stored(
        _shape(shape), _dtype(known.get(3, 0)), pieces
    )


def _values(message: memoryview, kind: np.dtype) -> np.ndarray:
    """The numbers in a TensorProto that lists them, as those of V1 do."""
    parts: list[np.ndarray] = []
    whole: list[int] = []
    for number, value in fields(message):
        if number in _FIXED and isinstance(value, memoryview):
            if len(value) % np.dtype(_FIXED[number]).itemsize:
                raise Damaged("it is cut short")
            parts.append(np.frombuffer(value, _FIXED[number]))
        elif number in _VARINTS:
            whole += [signed(one) for one in _varints(value)]
    if whole:
        parts.append(np.array(whole, np.int64))
    # Each on its own: of some types NumPy knows none that holds both.
    parts = [part.astype(kind, copy=False) for part in parts]
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, kind), *parts])


def _varints(value: int | memoryview) -> Sequence[int]:
    if isinstance(value, int):
        return [value]
    found, position = [], 0
    while position < len(value):
        one, position = varint(value, position)
        found.append(one)
    return found
