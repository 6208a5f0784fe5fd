import atexit
import contextlib
import errno
import os
import pathlib
import platform
import signal
import stat
import tempfile

import pytest

from foundation import files
from foundation.errors import Unreadable
from tests import forked


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


def test_a_pipe_is_written_to_and_a_link_stays(tmp_path):
    pipe, link, target = (tmp_path / name for name in ("pipe", "link", "target"))
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with files.whole(pipe) as file:
        file.write("é")
    assert os.read(reader, 9) == "é".encode() and pipe.is_fifo()  # as /dev/null would be
    os.close(reader)
    link.symlink_to(target)
    with files.whole(link) as file:
        file.write("x")
    assert link.is_symlink() and target.read_text() == "x"
    with pytest.raises(IsADirectoryError), files.whole(tmp_path):
        pass
    assert {each.name for each in tmp_path.iterdir()} == {"pipe", "link", "target"}


def test_the_disk_has_a_file_before_it_has_its_name(tmp_path, monkeypatch):
    """So that a loss of power leaves the former one or this one, and no empty file."""
    done = []
    monkeypatch.setattr(os, "fsync", lambda handle: done.append(os.fstat(handle).st_size))
    monkeypatch.setattr(os, "replace", lambda *names: done.append("named"))
    with files.whole(tmp_path / "file.txt") as file:
        file.write("whole")
    assert done == [5, "named"]


@pytest.mark.parametrize("problem", [errno.EINVAL, errno.EIO])
def test_a_disk_that_can_t_tell_is_no_failing_one(tmp_path, monkeypatch, problem):
    def fail(handle):
        raise OSError(problem, os.strerror(problem))

    monkeypatch.setattr(os, "fsync", fail)
    is_failing = problem == errno.EIO
    with pytest.raises(OSError, match="x.txt") if is_failing else contextlib.nullcontext():
        with files.whole(tmp_path / "x.txt") as file:
            file.write("x")
    assert os.listdir(tmp_path) == ([] if is_failing else ["x.txt"])


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
        expected = f"process {os.getpid()} on {platform.node()}" if name else "another process"
        assert files.holder(tmp_path / name) == expected
    with files.locked(tmp_path / name):
        pass


def test_an_own_folder_is_empty_and_gone_at_the_end(tmp_path):
    folder = tmp_path / "above" / "own"
    (folder / "left").mkdir(parents=True)
    (folder / "left/by.txt").write_text("a process that was killed")
    with files.own_folder(folder):
        assert not any(folder.iterdir())
        (folder / "new.txt").touch()
        with pytest.raises(BlockingIOError):
            with files.own_folder(folder):
                pass
        assert (folder / "new.txt").exists()
    assert not folder.exists()
    with pytest.raises(OSError) as caught:
        with files.own_folder(folder):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(folder) and not folder.exists()


def test_an_own_folder_that_was_renamed_is_free_for_another(tmp_path):
    folder, renamed = tmp_path / "own", tmp_path / "renamed"
    with files.own_folder(folder):
        folder.rename(renamed)
        with files.own_folder(folder):  # another process's, in the meantime
            (folder / "of_another.txt").touch()
            folder.rename(tmp_path / "kept")
            folder.mkdir()
            (folder / "of_a_third.txt").touch()
    assert renamed.exists() and (tmp_path / "kept/of_another.txt").exists()
    assert (folder / "of_a_third.txt").exists()


def test_a_lock_is_of_what_has_the_name_now(tmp_path, monkeypatch):
    """Who held the file removes it just before the second process gets the lock."""
    path, real = tmp_path / "lock", files._lock

    def lock(handle, wait):
        if not (tmp_path / "removed").exists():
            (tmp_path / "removed").touch()
            path.unlink()
        real(handle, wait)

    monkeypatch.setattr(files, "_lock", lock)
    with files.locked(path):
        with pytest.raises(BlockingIOError):
            with files.locked(path):
                pass


def test_the_fault_of_a_machine_is_told_from_that_of_a_file(tmp_path):
    for number in (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENXIO, errno.EMFILE):
        with pytest.raises(Unreadable, match=r"cat.jpg: .*Check the disk .* move it away"):
            with files.readable(tmp_path / "cat.jpg"):
                raise OSError(number, os.strerror(number))
    for number in (errno.ENOENT, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG):
        with pytest.raises(OSError) as caught, files.readable(tmp_path):
            raise OSError(number, os.strerror(number))
        assert not isinstance(caught.value, Unreadable)
    assert not files.is_file(tmp_path / "none") and not files.is_file("\0")


def fill_and_be_killed(folder, kill):
    """In a process of its own: makes such a folder in `folder`, and ends."""
    tempfile.tempdir = str(folder)
    made = files.scratch_folder("copies")
    with open(os.path.join(made, "1.tfrecord"), "w") as file:
        file.write(made)
    if kill:
        os.kill(os.getpid(), signal.SIGKILL)
    atexit._run_exitfuncs()  # as Python does where no test forks


def test_folders_for_temporary_files_go_with_their_process_or_the_next(tmp_path, monkeypatch):
    processes = forked.context()  # keeps a folder for temporary files of its own
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    living = files.scratch_folder("copies")
    other_machine = tmp_path / f"copies_not{platform.node()}_1"
    others = [other_machine, tmp_path / "copies", tmp_path / f"more_{platform.node()}_1"]
    for folder in others:
        folder.mkdir()
    expected = {*others, pathlib.Path(living)}
    for kill in (True, False, True, False):
        process = processes.Process(target=fill_and_be_killed, args=(tmp_path, kill))
        process.start()
        process.join(60)
        assert process.exitcode == (-signal.SIGKILL if kill else 0)
        assert len({*tmp_path.iterdir()} - expected) == kill
        assert {*tmp_path.iterdir()} >= expected
    assert stat.S_IMODE(os.stat(living).st_mode) == 0o700


def test_folders_for_temporary_files_of_another_user_or_behind_a_link_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    abandoned = tmp_path / "tmp" / f"copies_{platform.node()}_1"
    abandoned.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tmp" / f"copies_{platform.node()}_2").symlink_to(tmp_path / "elsewhere")
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    files.scratch_folder("copies")
    assert abandoned.exists()
    monkeypatch.setattr(os, "getuid", lambda: user)
    files.scratch_folder("copies")
    assert not abandoned.exists() and (tmp_path / "elsewhere").exists()
