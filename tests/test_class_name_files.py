"""labels.txt and files like it."""

import pytest

from foundation import labels
from foundation.errors import InputError


def test_names_with_and_without_numbers(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("1:emu: big\n0: cat \n\n")
    assert labels.read(path) == ("cat", "emu: big")
    path.write_text("cat\nemu: big\n")
    assert labels.read(path) == ("cat", "emu: big")
    labels.write(path, ("γάτα", "3:1"))
    assert labels.read(path) == ("γάτα", "3:1")


def test_numbers_with_gaps_are_refused(tmp_path):
    (tmp_path / "labels.txt").write_text("0:cat\n2:emu\n")
    with pytest.raises(InputError, match=r"labels\.txt: the numbers .* must be 0 to 1"):
        labels.read(tmp_path / "labels.txt")
