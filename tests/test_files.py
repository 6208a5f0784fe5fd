import errno
import os

import pytest

from foundation import files


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "file.txt"
    with files.whole(path) as file:
        file.write("Käfer")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "Käfer"
    with pytest.raises(KeyboardInterrupt):
        with files.whole(path) as file:
            file.write("half")
            raise KeyboardInterrupt
    assert path.read_text(encoding="utf-8") == "Käfer"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_full_disk_names_the_file(tmp_path):
    path = str(tmp_path / "file.txt")
    with pytest.raises(OSError, match="file.txt") as caught:
        with files.whole(path):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert (caught.value.filename, caught.value.strerror) == (path, "No space left on device")
    with pytest.raises(OSError) as caught:
        with files.whole(path):
            open(tmp_path / "gone.jpg")
    assert caught.value.filename == str(tmp_path / "gone.jpg")
    with pytest.raises(OSError, match="^no errno at all$"):
        with files.whole(path):
            raise OSError("no errno at all")


@pytest.mark.parametrize("name", ["", "lock"])
def test_one_at_a_time_holds_a_folder_or_a_file(tmp_path, name):
    with files.locked(tmp_path / name):
        with pytest.raises(BlockingIOError):
            with files.locked(tmp_path / name):
                pass
    with files.locked(tmp_path / name):
        pass
