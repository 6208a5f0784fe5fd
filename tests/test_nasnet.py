import dataclasses
import functools

import keras
import numpy as np
import pytest

from nets import layers, nasnet, nets_factory, slim_names
from nets.layers import DropPath

SMALLEST = {"nasnet_cifar": 3, "nasnet_mobile": 19, "pnasnet_mobile": 19}


def build_small(name, image_size, **options):
    """The net with a cell a stage and few filters."""
    net = nets_factory.get(name)
    (architecture,) = net.builder.args
    small = dataclasses.replace(architecture, num_cells=3, filters=8, stem_filters=8)
    builder = functools.partial(nasnet.build, small, **net.builder.keywords)
    return dataclasses.replace(net, builder=builder).build(5, image_size, **options)


def images_of(model, batch=4):
    shape = (batch, *model.input.shape[1:])
    return np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")


@pytest.mark.parametrize(("name", "smallest"), SMALLEST.items())
def test_images_are_large_enough_or_refused(name, smallest):
    model = build_small(name, smallest)
    # A map that cannot shrink any more would be joined under other names.
    usual = slim_names.variables(build_small(name, 32))
    assert slim_names.variables(model).keys() == usual.keys()
    assert nets_factory.end_points(model)["Cell_2"].shape[1] == 1
    message = rf"{name}: images of {smallest - 1} .* at least {smallest} x"
    with pytest.raises(ValueError, match=message):
        build_small(name, smallest - 1)


@pytest.mark.parametrize(("name", "size"), [("nasnet_cifar", 9), ("pnasnet_mobile", 67)])
def test_auxiliary_head_is_built_on_request_and_where_it_has_room(name, size):
    plain = build_small(name, size)
    model = build_small(name, size, create_aux_logits=True)
    cramped = build_small(name, size - 1, create_aux_logits=True)
    assert list(plain.output) == list(cramped.output) == ["logits"]
    assert model.output["aux_logits"].shape == (None, 5)
    assert nets_factory.end_points(model)["AuxLogits"] is model.output["aux_logits"]
    extra = slim_names.variables(model).keys() - slim_names.variables(plain).keys()
    assert len(extra) == 12
    assert {extra_name.partition("/aux_logits/")[0] for extra_name in extra} == {"aux_1"}


def test_drop_path_drops_more_in_later_cells():
    model = build_small("nasnet_cifar", 8, drop_path_keep_prob=0.5, drop_path_steps=7)
    paths = [layer for layer in model.layers if isinstance(layer, DropPath)]
    assert {layer.ramp_steps for layer in paths} == {7}
    keep_probs = {layer.name.split(".")[0]: layer.keep_prob for layer in paths}
    # Slim's share to drop is that of the last cell times (cell number + 1) / cells.
    assert keep_probs == pytest.approx(
        {"cell_0": 0.9, "reduction_cell_0": 0.8, "cell_1": 0.7, "reduction_cell_1": 0.6}
        | {"cell_2": 0.5}
    )
    # Eight operations of a normal cell, nine of a reduction: identities are never dropped.
    in_cell_0 = [layer.name for layer in paths if layer.name.startswith("cell_0.")]
    assert len(in_cell_0) == 8
    assert "cell_0.comb_iter_2.right.drop_path" not in in_cell_0
    assert not any(
        isinstance(layer, DropPath)
        for layer in build_small("nasnet_cifar", 8, drop_path_keep_prob=1.0).layers
    )


@pytest.mark.parametrize("options", [{"drop_path_keep_prob": 0.0}, {"drop_path_steps": 0}])
def test_impossible_drop_paths_are_refused(options):
    with pytest.raises(ValueError, match=r"nasnet_cifar: drop_path_keep_prob=.* above 0"):
        build_small("nasnet_cifar", 8, **options)


def test_slims_settings_are_the_defaults():
    def settings(name):
        options = nets_factory.get(name).options
        return tuple(
            options[option]
            for option in (
                "drop_path_keep_prob",
                "drop_path_steps",
                "dropout_keep_prob",
            )
        )

    assert settings("nasnet_cifar") == (0.6, 937_500, 1.0)
    assert settings("nasnet_mobile") == (1.0, 250_000, 0.5)
    assert settings("nasnet_large") == (0.7, 250_000, 0.5)
    assert settings("pnasnet_mobile") == (1.0, 250_000, 0.5)
    assert settings("pnasnet_large") == (0.6, 250_000, 0.5)


@pytest.mark.parametrize(("name", "decay"), [("nasnet_cifar", 0.9), ("nasnet_mobile", 0.9997)])
def test_slims_decay_of_batch_norm(name, decay):
    with keras.StatelessScope(initialize_variables=False):
        model = nets_factory.build(name, 5, 32)
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNorm)]
    assert {layer.decay for layer in norms} == {decay}
