import keras
import pytest

from nets import slim_names

NAMES = [
    "Net/block1/conv/weights",
    "Net/block1/conv/biases",
    "Net/block10/conv/weights",
    "Net/Mixed_7a/Branch_0/weights",
    "Net/Mixed_7b/Branch_0/weights",
    "Net/Logits/weights",
]


@pytest.fixture(scope="module")
def keras_net():
    x = keras.Input((8, 8, 3))
    y = keras.layers.Conv2D(4, 3, name="A.b.conv")(x)
    y = keras.layers.BatchNormalization(name="A.b.conv.BatchNorm")(y)
    y = keras.layers.SeparableConv2D(4, 3, use_bias=False, name="A.separable")(y)
    y = keras.layers.Dropout(0.5)(y)
    y = keras.layers.Dense(2, name="predictions")(keras.layers.Flatten()(y))
    return keras.Model(x, y)


def test_names_are_slims(keras_net):
    assert list(slim_names.variables(keras_net)) == [
        "A/b/conv/weights",
        "A/b/conv/biases",
        "A/b/conv/BatchNorm/gamma",
        "A/b/conv/BatchNorm/beta",
        "A/b/conv/BatchNorm/moving_mean",
        "A/b/conv/BatchNorm/moving_variance",
        "A/separable/depthwise_weights",
        "A/separable/pointwise_weights",
        "predictions/weights",
        "predictions/biases",
    ]


def test_layers_of_keras_have_their_kernels_regularized(keras_net):
    assert slim_names.regularized(keras_net) == [
        "A/b/conv/weights",
        "A/separable/pointwise_weights",
        "predictions/weights",
    ]


def test_exclude_scopes_catch_by_string_prefix():
    assert slim_names.caught_by_prefix(["Net/block1", "Net/Mixed_7"], NAMES) == {
        "Net/block1": NAMES[:3],
        "Net/Mixed_7": NAMES[3:5],
    }
    assert slim_names.caught_by_prefix([], NAMES) == {}


def test_a_prefix_is_no_regular_expression():
    with pytest.raises(ValueError, match=r"no variable in Net/\.\*"):
        slim_names.caught_by_prefix(["Net/.*"], NAMES)


def test_trainable_scopes_catch_by_match_at_the_start():
    assert slim_names.caught_by_match([r"Net/block1/", r".*biases"], NAMES) == {
        "Net/block1/": NAMES[:2],
        ".*biases": NAMES[1:2],
    }
    with pytest.raises(ValueError, match="no variable in conv"):
        slim_names.caught_by_match(["conv"], NAMES)


def test_a_scope_that_catches_nothing_is_answered_with_the_closest():
    with pytest.raises(
        ValueError, match=r"--checkpoint_exclude_scopes: no variable in Net/Logit_s.*Net/Logits"
    ):
        slim_names.caught_by_prefix(["Net/Logits", "Net/Logit_s"], NAMES)
    with pytest.raises(ValueError, match=r"--trainable_scopes: .* Closest scopes: Net\."):
        slim_names.caught_by_match(["zzz"], NAMES)


def test_a_broken_pattern_is_named():
    with pytest.raises(ValueError, match=r"--trainable_scopes: 'Net/\(' is no regular expression"):
        slim_names.caught_by_match(["Net/("], NAMES)


def test_scopes_are_listed_once():
    assert slim_names.scopes(NAMES)[:4] == ["Net", "Net/block1", "Net/block1/conv", "Net/block10"]
