import pytest

from nets import costs, names, nets_factory, pretrained, published


def test_every_net_has_its_costs():
    assert list(costs.known()) == list(nets_factory.NETS), "run python -m nets.costs"
    for name, net in nets_factory.NETS.items():
        assert names.image_size(name) == net.image_size
    assert set(published.TOP_1) <= set(nets_factory.NETS)
    assert all(pretrained.source(name) for name in published.TOP_1)


@pytest.mark.parametrize("name", ["mobilenet_v1_025", "vgg_16", "efficientnet_b0"])
def test_the_file_is_what_is_computed(name):
    assert costs.compute(name) == costs.known()[name]


@pytest.mark.parametrize(
    ("name", "millions"),
    # Of MobileNet v1's, v2's and NASNet's papers, and TF-Slim's mobilenet_v1.md.
    [
        ("mobilenet_v1", 569),
        ("mobilenet_v1_025", 41),
        ("mobilenet_v2", 300),
        ("nasnet_mobile", 564),
    ],
)
def test_multiply_adds_are_the_published_ones(name, millions):
    assert round(costs.known()[name].multiply_adds / 1e6, -1) == pytest.approx(millions, abs=6)
