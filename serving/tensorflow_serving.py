"""What TensorFlow Serving reads beside a SavedModel: warm-up, settings, and example requests.

The messages are written without the package tensorflow-serving-api, so that every export has them.
"""

import base64
import json
import os
from collections.abc import Sequence

import tensorflow as tf

from serving import saved_model

# What the server calls the model: in URLs, in requests, and the folder that it is mounted at.
MODEL_NAME = "classifier"
WARM_UP = "tf_serving_warmup_requests"
CONFIG, BATCHING = "models.config", "batching_parameters.txt"
REST_REQUEST, GRPC_REQUEST = "rest_request.json", "grpc_request.pb"
_MOST_PICTURES = 8  # of the warm-up's largest request
_CONFIG_TEXT = f"""model_config_list {{
  config {{
    name: "{MODEL_NAME}"
    base_path: "/models/{MODEL_NAME}"
    model_platform: "tensorflow"
  }}
}}
"""
# A request waits for others two milliseconds at most, and may hold as many pictures as a batch.
_BATCHING_TEXT = """max_batch_size { value: 32 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 4 }
"""


def write_warm_up(directory: str, pictures: Sequence[bytes]) -> None:
    """Writes assets.extra/tf_serving_warmup_requests of a SavedModel of `saved_model.write`.

    A server that loads the model sends it these requests first: one picture and several to
    `serving_default`, one to each other signature but `explain`, which people wait for. Only then
    it answers requests of others, which so don't wait for what the first calls compile and
    allocate.

    Args:
      directory: the SavedModel, such as `saved_model/1`.
      pictures: encoded, at least one; the first eight are taken.

    Raises:
      OSError: can't be written.
    """
    several = [*pictures[:_MOST_PICTURES]]
    image = tf.io.decode_image(several[0], 3, expand_animations=False)[tf.newaxis]
    requests = [
        (saved_model.ENCODED, "encoded_images", tf.constant(several[:1])),
        (saved_model.ENCODED, "encoded_images", tf.constant(several)),
        (saved_model.FEATURES, "encoded_images", tf.constant(several[:1])),
        (saved_model.IMAGES, "images", tf.cast(image, tf.float32)),
        (saved_model.IMAGES_UINT8, "images", image),
    ]
    path = os.path.join(directory, "assets.extra", WARM_UP)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        with tf.io.TFRecordWriter(path) as file:
            for signature, name, tensor in requests:
                # PredictionLog.predict_log.request, of apis/prediction_log.proto.
                file.write(_field(6, _field(1, predict_request(signature, name, tensor))))
    except tf.errors.OpError as error:
        raise OSError(f"{path}: could not be written: {error.message}") from error


def write_settings(folder: str, picture: bytes) -> None:
    """Writes a server's settings and example requests into the folder of a SavedModel's versions.

    models.config and batching_parameters.txt are read by the server's flags
    --model_config_file and --batching_parameters_file. rest_request.json is the body of a POST to
    `/v1/models/classifier:predict`, grpc_request.pb a serialized PredictRequest; both ask what is
    in `picture`.

    Raises:
      OSError: can't be written.
    """
    body = {
        "signature_name": saved_model.ENCODED,
        "instances": [{"b64": base64.b64encode(picture).decode()}],
    }
    request = predict_request(saved_model.ENCODED, "encoded_images", tf.constant([picture]))
    for name, content in (
        (CONFIG, _CONFIG_TEXT.encode()),
        (BATCHING, _BATCHING_TEXT.encode()),
        (REST_REQUEST, json.dumps(body).encode()),
        (GRPC_REQUEST, request),
    ):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content)


def predict_request(signature: str, name: str, tensor: tf.Tensor) -> bytes:
    """A serialized tensorflow.serving.PredictRequest, apis/predict.proto.

    Args:
      signature: of the SavedModel.
      name: of its input.
      tensor: what it is given.
    """
    model_spec = _field(1, MODEL_NAME.encode()) + _field(3, signature.encode())
    value = tf.make_tensor_proto(tensor).SerializeToString()
    entry = _field(1, name.encode()) + _field(2, value)  # an entry of the map of inputs
    return _field(1, model_spec) + _field(2, entry)


def _field(number: int, content: bytes) -> bytes:
    """A text, message or byte string as a field of a message, in protobuf's wire format."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Seven bits a byte, lowest first; all but the last byte have their highest bit set."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
