"""Which recipe a name means."""

import pytest

from foundation.errors import InputError
from nets import nets_factory
from runs import preparation


@pytest.mark.parametrize(
    "name, recipe",
    [
        ("vgg", "vgg"),
        ("inception_v3", "inception"),
        ("mobilenet_v1_025", "inception"),
        ("nasnet_mobile", "inception"),
        ("pnasnet_large", "inception"),
        ("resnet_v2_50", "vgg"),
        ("vgg_16", "vgg"),
        ("overfeat", "vgg"),
        ("alexnet_v2", "vgg"),
        ("nasnet_cifar", "cifarnet"),
        ("lenet", "lenet"),
        ("resnet", "vgg"),
        ("nasnet", "inception"),
    ],
)
def test_the_name_of_a_net_or_a_family_stands_for_its_recipe(name, recipe):
    assert preparation.recipe_name(name) == recipe


@pytest.mark.parametrize("name", nets_factory.NETS)
def test_so_does_every_nets_name(name):
    assert preparation.recipe_name(name) == nets_factory.get(name).preprocessing


def test_another_name_is_refused():
    with pytest.raises(InputError, match="--preprocessing_name=incepton: is not a recipe"):
        preparation.recipe_name("incepton")
