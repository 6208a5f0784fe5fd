"""TFLite Metadata: what a .tflite file says of its input, its outputs and its labels.

The ImageClassifier of MediaPipe Tasks and of TensorFlow Lite's Task Library reads it. It is a
FlatBuffer by the schema of tflite-support (tensorflow_lite_support/metadata/metadata_schema.fbs),
version 1.0.0, and lies in a buffer of the model.
"""

import collections
import dataclasses
from collections.abc import Sequence

import flatbuffers
import numpy as np
from tensorflow.lite.tools import flatbuffer_utils

from foundation import labels

# Of the buffer in the model, of the FlatBuffer in it, and of the schema.
_ENTRY, _IDENTIFIER, _VERSION = b"TFLITE_METADATA", b"M001", "1.0.0"
# Of 255: how far a uint8 input may be from the pixels themselves.
_MOST_LEVELS_OFF = 2


def _table(name: str, fields: str):
    return collections.namedtuple(name, fields, defaults=[None] * len(fields.split()))


# Tables of the schema, their first fields in its order; a union is two: its type and its table.
_ModelMetadata = _table(
    "ModelMetadata",
    "name description version subgraph_metadata author license associated_files min_parser_version",
)
_SubGraphMetadata = _table(
    "SubGraphMetadata", "name description input_tensor_metadata output_tensor_metadata"
)
_TensorMetadata = _table(
    "TensorMetadata",
    "name description dimension_names content process_units stats associated_files",
)
_Content = _table("Content", "content_properties_type content_properties")
_FeatureProperties = _table("FeatureProperties", "")
_ImageProperties = _table("ImageProperties", "color_space")
_ProcessUnit = _table("ProcessUnit", "options_type options")
_NormalizationOptions = _table("NormalizationOptions", "mean std")
_AssociatedFile = _table("AssociatedFile", "name description type")
# Of ContentProperties, ColorSpaceType, ProcessUnitOptions, AssociatedFileType.
_IS_FEATURES, _IS_IMAGE = 1, 2
_RGB, _GRAYSCALE = 1, 2
_IS_NORMALIZATION = 1
_TENSOR_AXIS_LABELS = 2


@dataclasses.dataclass(frozen=True)
class About:
    """What a file says of its net.

    Attributes:
      name: of the net.
      version: which training of it, such as the name of its checkpoint.
      input_words: how a picture becomes what the net takes.
      moments: mean and deviation where a pixel x in 0..255 becomes (x - mean) / deviation, one
        value for each of R, G and B or one for all; None where more than that is done to it.
    """

    name: str
    version: str
    input_words: str
    moments: tuple[Sequence[float], Sequence[float]] | None = None


def added(content: bytes, about: About, num_classes: int) -> bytes:
    """A .tflite file with metadata; the probabilities become its first output.

    Each output names labels.txt as the file of its classes, which is not written here. The input
    says that it is an image, with its mean and deviation, where readers that go by these feed the
    net what it takes; else it says that it is numbers, which they refuse.

    Args:
      content: the file: one signature from images to `logits` and `probabilities`.
      about: what it says.
      num_classes: the outputs are [N, num_classes].
    """
    model = flatbuffer_utils.read_model_from_bytearray(content)
    graph, (signature,) = model.subgraphs[0], model.signatureDefs
    names = {output.tensorIndex: output.name.decode() for output in signature.outputs}
    graph.outputs = sorted(graph.outputs, key=lambda index: names[index] != "probabilities")
    builder = flatbuffers.Builder(1024)
    metadata = _ModelMetadata(
        name=about.name,
        description=f"Names what a picture shows: one of {num_classes} classes.",
        version=about.version,
        subgraph_metadata=[
            _SubGraphMetadata(
                input_tensor_metadata=[_input(graph.tensors[graph.inputs[0]], about)],
                output_tensor_metadata=[_output(names[index]) for index in graph.outputs],
            )
        ],
        min_parser_version=_VERSION,
    )
    builder.Finish(_written(builder, metadata), _IDENTIFIER)
    schema = flatbuffer_utils.schema_fb
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(builder.Output(), np.uint8)
    entry.name, entry.buffer = _ENTRY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or ()), entry]
    return flatbuffer_utils.convert_object_to_bytearray(model)


def _input(tensor, about: About) -> _TensorMetadata:
    """What is said of the input, an object of the schema's TensorT."""
    _, height, width, channels = tensor.shape
    words = f"{height} x {width} pixels of an upright picture: {about.input_words}."
    mean, std = (np.array(values, np.float32) for values in about.moments or ((), ()))
    if about.moments and _takes_pixels(tensor, mean, std):
        return _TensorMetadata(
            name="image",
            description=words,
            content=_Content(_IS_IMAGE, _ImageProperties(_RGB if channels == 3 else _GRAYSCALE)),
            process_units=[_ProcessUnit(_IS_NORMALIZATION, _NormalizationOptions(mean, std))],
        )
    if about.moments:
        words += f" They are fed as (x - {mean}) / {std}, quantized as this tensor is."
    else:
        words += " They are not fed as (x - mean) / deviation."
    content = _Content(_IS_FEATURES, _FeatureProperties())
    return _TensorMetadata(name="image", description=words, content=content)


def _takes_pixels(tensor, mean: np.ndarray, std: np.ndarray) -> bool:
    """Whether readers of the metadata feed a tensor what it takes.

    They normalise the pixels for a tensor of float32, and give them as they are to one of uint8.
    """
    if tensor.type == flatbuffer_utils.schema_fb.TensorType.FLOAT32:
        return True
    scale, zero_point = tensor.quantization.scale[0], tensor.quantization.zeroPoint[0]
    ends = np.array([[0.0], [255.0]])
    fed = (ends - mean) / std / scale + zero_point
    return bool(np.abs(fed - ends).max() <= _MOST_LEVELS_OFF)


def _output(name: str) -> _TensorMetadata:
    words = {
        "probabilities": "The probability of each class.",
        "logits": "The same before softmax.",
    }
    names = _AssociatedFile(
        labels.FILE_NAME, "Class names in the output's order, one a line.", _TENSOR_AXIS_LABELS
    )
    return _TensorMetadata(name=name, description=words[name], associated_files=[names])


def _written(builder: flatbuffers.Builder, value) -> int:
    """Writes a text, an array, a list or a table, what it points to first; where it begins."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, np.ndarray):
        return builder.CreateNumpyVector(value)
    if isinstance(value, list):
        places = [_written(builder, item) for item in value]
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()
    places = [
        None if field is None or isinstance(field, int) else _written(builder, field)
        for field in value
    ]
    builder.StartObject(len(value))
    for slot, (place, field) in enumerate(zip(places, value, strict=True)):
        if place is not None:
            builder.PrependUOffsetTRelativeSlot(slot, place, 0)
        elif field is not None:  # a byte, as all numbers of these tables: of enums and unions
            builder.PrependInt8Slot(slot, field, 0)
    return builder.EndObject()
