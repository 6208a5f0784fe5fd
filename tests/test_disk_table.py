import subprocess
import sys

import pytest

from datasets.disk_table import DiskTable


def test_values_come_by_key_and_as_they_were_added():
    table = DiskTable()
    for key, value in ((b"b", 1), (b"a", ("two", None)), (b"b", 3), (b"\xff\x00", "\udce9")):
        table.add(key, value)
    assert len(table) == 4
    assert list(table.by_key()) == [("two", None), 1, 3, "\udce9"]
    assert table.get(b"b") == [1, 3]
    assert table.get(b"c") == []
    assert b"b" in table and b"c" not in table
    assert list(table.by_group()) == [[1, 3], [("two", None)], ["\udce9"]]


def test_what_was_asked_for_before_is_found_when_it_is_there():
    table = DiskTable()
    for i in range(1000):
        assert table.get(b"%d" % i) == []
        table.add(b"%d" % i, i)
    assert [table.get(b"%d" % i) for i in range(1000)] == [[i] for i in range(1000)]


_FULL = """
import resource, signal
from datasets.disk_table import DiskTable
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
table = DiskTable()
try:
    for i in range(100_000):
        table.add(b"%d" % i, "x" * 200)
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size")
def test_a_full_disk_is_told():
    result = subprocess.run([sys.executable, "-c", _FULL], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "cannot be kept in the temporary folder" in result.stdout
    assert "TMPDIR" in result.stdout
