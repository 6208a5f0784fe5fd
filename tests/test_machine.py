"""What the machine gives this process."""

import os

import pytest

from datasets import batches
from foundation import machine


def test_processors_are_counted_by_affinity(monkeypatch):
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity")
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert machine.num_processors() == 1
        assert batches._threads(None) == 1 and batches._threads(3) == 3
    finally:
        os.sched_setaffinity(0, allowed)
    monkeypatch.delattr(os, "sched_getaffinity")
    assert machine.num_processors() == os.cpu_count()
