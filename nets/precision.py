"""What the layers of a net compute in, by the names that --precision has."""

import tensorflow as tf

PRECISIONS = ("float32", "tf32", "bfloat16")


def choose(name: str) -> str:
    """The Keras dtype policy for a precision; decides for the whole process what float32 means.

    GPUs since Ampere multiply float32 numbers rounded to 10 bits of fraction (TF32) unless that is
    forbidden: several times as fast, and logits differ from float32's in the third digit. So
    "float32" forbids it, and "tf32" is its name. Elsewhere the two are the same.

    Args:
      name: one of PRECISIONS.
    """
    tf.config.experimental.enable_tensor_float_32_execution(name != "float32")
    return "mixed_bfloat16" if name == "bfloat16" else "float32"
