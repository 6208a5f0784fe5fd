"""What the machine gives this process."""

import gc
import os
import subprocess
import sys

import pytest

from datasets import batches
from foundation import machine
from tests.conftest import ROOT


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


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has it")
@pytest.mark.parametrize("dies", ["before", "after"])
def test_a_process_ends_with_the_one_that_began_it(dies):
    """The parent sleeps, or has gone already: then the number is another's."""
    number = "os.getppid() + 1" if dies == "before" else "os.getppid()"
    child = f"import os, time; from foundation import machine; machine.end_with_parent({number});"
    child += "print(os.getpid(), flush=True); time.sleep(60)"
    parent = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]]).wait()"
    with subprocess.Popen(
        [sys.executable, "-c", parent, child], stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        if dies == "before":
            assert process.stdout.read() == b""
        else:
            assert int(process.stdout.readline())
            process.kill()
            assert process.stdout.read() == b""  # its end: nobody is left who could write


def test_imports_are_quick_without_the_collector_and_what_is_hidden(monkeypatch):
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with machine.quick_imports(hidden=("wave", "os")):
        assert not gc.isenabled()
        with pytest.raises(ImportError):
            import wave
        import os  # was there before, and stays

        assert os.path
    assert gc.isenabled() and gc.get_freeze_count()
    import wave

    assert wave.open
    gc.unfreeze()


def test_the_collector_stays_off_for_who_wants_it_off():
    gc.disable()
    try:
        with machine.without_collector():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
