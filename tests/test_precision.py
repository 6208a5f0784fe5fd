import pytest
import tensorflow as tf

from nets import precision


@pytest.fixture(autouse=True)
def as_before():
    yield
    tf.config.experimental.enable_tensor_float_32_execution(True)


@pytest.mark.parametrize(
    ("name", "dtype", "rounded"),
    [
        ("float32", "float32", False),
        ("tf32", "float32", True),
        ("bfloat16", "mixed_bfloat16", True),
    ],
)
def test_only_float32_forbids_tf32(name, dtype, rounded):
    assert precision.choose(name) == dtype
    assert tf.config.experimental.tensor_float_32_execution_enabled() is rounded
