"""What an example is: the labelled photograph a reader yields, and its tf.Example record.

The only place with feature keys. Records are TF-Slim's with more features: its readers can read
them, and `parse_example` reads records that TF-Slim wrote.

Encoding runs without TensorFlow, whose import costs every process five seconds and half a
gigabyte: the message is described to the protobuf library here, the checksum is google-crc32c's.
"""

import dataclasses
import struct
from typing import NamedTuple

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

ENCODED = "image/encoded"
FORMAT = "image/format"
LABEL = "image/class/label"
HEIGHT = "image/height"
WIDTH = "image/width"
FILENAME = "image/filename"
TEXT = "image/class/text"
SHA256 = "image/sha256"
YMIN = "image/object/bbox/ymin"
XMIN = "image/object/bbox/xmin"
YMAX = "image/object/bbox/ymax"
XMAX = "image/object/bbox/xmax"
# Ours and TF-Slim's name first, then those of TensorFlow Datasets and of Keras' examples.
_ENCODED_NAMES = (ENCODED, "image", "image_raw")
_LABEL_NAMES = (LABEL, "label")
_OBJECT_LABELS = ("image/object/class/label", "image/object/class/text")
_BOXES_NAMES = ("objects/bbox", "bbox")  # ymin, xmin, ymax, xmax of one after the other
_DAMAGES = (message.DecodeError, UnicodeDecodeError)  # the latter of names that are no text
_GZIP_MAGIC = b"\x1f\x8b\x08"
# Stand for features that a record lacks; no record has these values.
_NO_IMAGE, _NO_LABEL = b"\x00none", -(2**62)


# How far fractions may lie outside of 0 to 1, as those of a detector do. Were they pixels, there
# would be less than two of them.
_OUTSIDE = 0.5


# The size that boxes refer to where the source says that all of them are in fractions.
FRACTIONS = (1, 1)


class Box(NamedTuple):
    """A rectangle: in pixels from a reader, in fractions of the image's sides in a record."""

    ymin: float
    xmin: float
    ymax: float
    xmax: float

    @property
    def area(self) -> float:
        return (self.ymax - self.ymin) * (self.xmax - self.xmin)

    @property
    def is_fraction(self) -> bool:
        """Whether the sides are fractions of an image's: in pixels it would be a speck."""
        return all(-_OUTSIDE < side < 1 + _OUTSIDE for side in self)

    def scaled(self, height: float, width: float) -> "Box":
        return Box(self.ymin * height, self.xmin * width, self.ymax * height, self.xmax * width)


@dataclasses.dataclass(frozen=True, slots=True)
class LabeledImage:
    """One example as its source describes it, before anyone has opened the photograph.

    Attributes:
      path: the photograph, relative to the image folder, with `/`.
      label: class name.
      boxes: objects of that class in pixels; the one that gave the label comes first.
      split: "train", "validation" or "test"; "" where the source gives none.
      size: (width, height) that the boxes refer to, as the source states it; None where it doesn't.
    """

    path: str
    label: str
    boxes: tuple[Box, ...] = ()
    split: str = ""
    size: tuple[int, int] | None = None

    def __reduce__(self):
        """Pickles in half the time that a dataclass takes by itself."""
        return LabeledImage, (self.path, self.label, self.boxes, self.split, self.size)


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """What is in a record.

    Attributes:
      encoded: the image, as `image_format` says.
      image_format: "jpeg" or "png".
      height, width: in pixels.
      label: class index from 0.
      text: class name.
      filename: where the photograph came from, relative to the image folder.
      boxes: as fractions of height and width, 0 to 1.
      sha256: hexadecimal digest of the source file, before any cropping or re-encoding.
    """

    encoded: bytes
    image_format: str
    height: int
    width: int
    label: int
    text: str
    filename: str
    boxes: tuple[Box, ...]
    sha256: str

    def serialize(self) -> bytes:
        """The record; equal examples give equal bytes."""
        record = _Message()
        for key, value in (
            (ENCODED, self.encoded),
            (FORMAT, self.image_format.encode()),
            # File and folder names are bytes: those that are not UTF-8 come through unchanged.
            (TEXT, self.text.encode(errors="surrogateescape")),
            (FILENAME, self.filename.encode(errors="surrogateescape")),
            (SHA256, self.sha256.encode()),
        ):
            _add_feature(record, key).bytes_list.value.append(value)
        for key, value in ((HEIGHT, self.height), (LABEL, self.label), (WIDTH, self.width)):
            _add_feature(record, key).int64_list.value.append(value)
        for key, side in ((YMIN, "ymin"), (XMIN, "xmin"), (YMAX, "ymax"), (XMAX, "xmax")):
            feature = _add_feature(record, key)
            # An empty list too must say its type, or TensorFlow refuses the feature.
            feature.float_list.SetInParent()
            feature.float_list.value.extend(getattr(box, side) for box in self.boxes)
        return record.SerializeToString()


def is_for_detection(record: bytes) -> bool:
    """Whether a record labels the objects in an image, and not the image."""
    names = _features(record).keys()
    return bool(names & set(_OBJECT_LABELS)) and not names & set(_LABEL_NAMES)


def encoded_image(record: bytes) -> bytes:
    """The encoded image of a record, by any of the names that it may have; empty without one."""
    return _encoded(_features(record))


def label_and_text(record: bytes) -> tuple[int, bytes] | None:
    """The class number and name of a record, b"" without a name; None without number or image."""
    features = _features(record)
    numbers = [features[name].int64_list.value for name in _LABEL_NAMES if name in features]
    if not numbers or len(numbers[0]) != 1 or not _encoded(features):
        return None
    texts = features[TEXT].bytes_list.value if TEXT in features else []
    return numbers[0][0], b"".join(texts[:1])


def _features(record: bytes) -> dict:
    """The features of a record by name; none where it is no tf.Example."""
    try:
        return {entry.key: entry.value for entry in _Message.FromString(record).features.feature}
    except _DAMAGES:
        return {}


def _encoded(features: dict) -> bytes:
    images = (features[name].bytes_list.value for name in _ENCODED_NAMES if name in features)
    return next((values[0] for values in images if values), b"")


def frame(record: bytes) -> bytes:
    """A record as it stands in a TFRecord file: length, its checksum, record, its checksum."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, masked_crc(length), record, masked_crc(record)))


def unframed(framed: bytes) -> bytes:
    """The record in what `frame` returns."""
    return framed[12:-4]


def masked_crc(data: bytes) -> bytes:
    """The checksum that TFRecord files hold for `data`, four bytes."""
    # The rotation and the constant are TFRecord's (tensorflow/core/lib/hash/crc32c.h).
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def is_gzip(start: bytes) -> bool:
    """Whether a TFRecord file is compressed by gzip, from its first 12 bytes."""
    # A record of a certain length begins with the same bytes; only its checksum tells.
    plain = len(start) >= 12 and masked_crc(start[:8]) == start[8:12]
    return start.startswith(_GZIP_MAGIC) and not plain


def parse_example(serialized):
    """Reads one record, inside or outside tf.data: ours, TF-Slim's, of TFDS, or of Keras' examples.

    TFDS writes `image`, `label` and `objects/bbox` (or `bbox`), Keras' examples `image` or
    `image_raw` and `label`, each with the encoded image.

    Args:
      serialized: scalar string tensor, a tf.Example.

    Returns:
      A dict of tensors: `encoded` string, `label` int64, `boxes` float32 [n, 4] as
      (ymin, xmin, ymax, xmax) in fractions, `filename` string, `text` string; the last three are
      empty where the record has none.

    Raises:
      tf.errors.DataLossError: not a tf.Example.
      tf.errors.InvalidArgumentError: one without image or label; its text names the feature.
    """
    import tensorflow as tf

    floats = tf.io.VarLenFeature(tf.float32)
    features = tf.io.parse_single_example(
        _checked(serialized),
        {
            **_scalars(_ENCODED_NAMES, tf.string, _NO_IMAGE),
            **_scalars(_LABEL_NAMES, tf.int64, _NO_LABEL),
            FILENAME: tf.io.FixedLenFeature([], tf.string, ""),
            TEXT: tf.io.FixedLenFeature([], tf.string, ""),
            YMIN: floats,
            XMIN: floats,
            YMAX: floats,
            XMAX: floats,
            **dict.fromkeys(_BOXES_NAMES, floats),
        },
    )
    sides = [features[key].values for key in (YMIN, XMIN, YMAX, XMAX)]
    flat = [tf.reshape(features[key].values, [-1, 4]) for key in _BOXES_NAMES]
    return {
        "encoded": _first_given(features, _ENCODED_NAMES, _NO_IMAGE),
        "label": _first_given(features, _LABEL_NAMES, _NO_LABEL),
        "boxes": tf.concat([tf.stack(sides, axis=1), *flat], axis=0),
        "filename": features[FILENAME],
        "text": features[TEXT],
    }


def _checked(serialized):
    """The same tensor, where protobuf can read it.

    TensorFlow's parser of examples is faster, but believes that bytes may be 4 GiB long and then
    writes outside of its memory. Reading twice takes 20 µs for 3 kB and 40 µs for 100 kB.
    """
    import tensorflow as tf

    sizes, _ = tf.io.decode_proto(
        *(serialized, "tensorflow.Example", ["features"], [tf.string]),
        descriptor_source="local://",
        sanitize=True,  # else it looks into nothing that is nested
    )
    # It raises where it can't read; but without an assertion on its result nothing runs it.
    check = tf.debugging.Assert(tf.reduce_all(sizes >= 0), [sizes])
    with tf.control_dependencies([check]):
        return tf.identity(serialized)


def _scalars(names, dtype, missing) -> dict[str, object]:
    import tensorflow as tf

    return {name: tf.io.FixedLenFeature([], dtype, missing) for name in names}


def _first_given(features, names, missing):
    """The first of several features that a record has; an error where it has none."""
    import tensorflow as tf

    def from_name(i: int):
        value = features[names[i]]
        if i + 1 == len(names):
            return value
        given = tf.not_equal(value, missing)
        if value.dtype != tf.string:
            return tf.where(given, value, from_name(i + 1))
        # tf.where would copy the image.
        return tf.cond(given, lambda: value, lambda: from_name(i + 1))

    value = from_name(0)
    message = f"Feature: {names[0]} is required but could not be found"
    check = tf.debugging.Assert(tf.reduce_all(tf.not_equal(value, missing)), [message])
    with tf.control_dependencies([check]):
        return tf.identity(value)


def parse_labels(serialized):
    """The labels of a batch of records, int64 [B], from a string tensor [B]; raises as above."""
    import tensorflow as tf

    labels = _scalars(_LABEL_NAMES, tf.int64, _NO_LABEL)
    features = tf.io.parse_example(_checked(serialized), labels)
    return _first_given(features, _LABEL_NAMES, _NO_LABEL)


def _add_feature(record, key: str):
    """Adds a feature to a record's message and returns its value, to be filled."""
    entry = record.features.feature.add()
    entry.key = key
    return entry.value


def _message_class():
    """tf.train.Example for the protobuf library, from tensorflow/core/example/*.proto.

    The map of features is declared as what it is on the wire, a list of key and value, so that
    the order of features, and so the bytes, are ours to decide.
    """
    field = descriptor_pb2.FieldDescriptorProto
    messages = {
        "BytesList": [("value", 1, field.TYPE_BYTES, None)],
        "FloatList": [("value", 1, field.TYPE_FLOAT, None)],
        "Int64List": [("value", 1, field.TYPE_INT64, None)],
        "Feature": [
            ("bytes_list", 1, field.TYPE_MESSAGE, "BytesList"),
            ("float_list", 2, field.TYPE_MESSAGE, "FloatList"),
            ("int64_list", 3, field.TYPE_MESSAGE, "Int64List"),
        ],
        "Entry": [
            ("key", 1, field.TYPE_STRING, None),
            ("value", 2, field.TYPE_MESSAGE, "Feature"),
        ],
        "Features": [("feature", 1, field.TYPE_MESSAGE, "Entry")],
        "Example": [("features", 1, field.TYPE_MESSAGE, "Features")],
    }
    repeated = {("BytesList", "value"), ("FloatList", "value"), ("Int64List", "value")}
    repeated.add(("Features", "feature"))
    package = "slim_image_classifiers"
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}/example.proto", package=package, syntax="proto3"
    )
    for kind, fields in messages.items():
        added = file.message_type.add(name=kind)
        for name, number, type_, of in fields:
            many = (kind, name) in repeated
            added.field.add(
                name=name,
                number=number,
                type=type_,
                type_name=f".{package}.{of}" if of else None,
                label=field.LABEL_REPEATED if many else field.LABEL_OPTIONAL,
            )
    # A pool of its own: TensorFlow's messages, when it is imported too, live in the default one.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Example"))


_Message = _message_class()
