import os

import pytest

from foundation import machine
from training import threads


@pytest.fixture(autouse=True)
def two_processors(monkeypatch):
    monkeypatch.setattr(machine, "num_processors", lambda: 2)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "")  # so that it is taken back afterwards
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS")


@pytest.mark.parametrize(
    ("net", "size", "batch", "one"),
    [
        ("mobilenet_v1_025", 64, 32, True),
        ("mobilenet_v1_025", 96, 32, True),
        ("mobilenet_v1_025", None, 32, False),
        ("mobilenet_v1_025", 64, 128, False),
        ("mobilenet_v1_025", 64, "auto", False),
        ("small_cnn", 64, 32, False),
        ("auto", 64, 32, False),
    ],
)
def test_small_steps_alone_take_one_thread_an_operation(net, size, batch, one):
    assert threads.suit(net, size, batch) == one
    assert os.environ.get("TF_NUM_INTRAOP_THREADS") == ("1" if one else None)


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    assert not threads.suit("mobilenet_v1_025", 64, 32)
    assert os.environ["TF_NUM_INTRAOP_THREADS"] == "2"


def test_many_processors_share_operations(monkeypatch):
    monkeypatch.setattr(machine, "num_processors", lambda: 16)
    assert not threads.suit("mobilenet_v1_025", 64, 32)
