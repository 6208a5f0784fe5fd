"""Disks that are full, that fail, and that may only be read, under each of the jobs."""

import errno
import os
import shutil
import subprocess
from functools import partial

import pytest

from tests import seccomp
from tests.faults import jobs, plugs

pytestmark = pytest.mark.faults
_ROOM = 64 * 2**20  # bytes, more than any job here needs


def one_line_of(done, place):
    """The one line of a job that failed, which names a file or an option."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    # After it, Python's own helper processes may complain; Optuna's thread that notes that a search
    # is alive does so before.
    before = done.stderr.partition(".py: error: ")[0]
    assert "Traceback" not in before or "(_record_heartbeat)" in before, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if ".py: error: " in line]
    assert str(place) in line or " --" in line, line
    return line


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a disk of so many bytes, or changes the one that is mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def mount(options):
        words = ["mount", "-t", "tmpfs", "-o", f"{'remount,' if mounted else ''}{options}"]
        done = subprocess.run([*words, "tmpfs", str(folder)], capture_output=True, text=True)
        if done.returncode and not mounted:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        mounted.append(options)
        return folder

    yield mount
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def bytes_used(folder):
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_full_disk_is_one_line_and_the_job_goes_on_once_there_is_room(
    job,
    share,
    disk,
    tmp_path,
):
    undisturbed = jobs.new(tmp_path, "undisturbed")
    done = job.run(undisturbed)
    assert done.returncode == 0, done.stderr
    place = disk(f"size={max(4096, int(share * bytes_used(undisturbed)))}")
    full = job.run(place)
    if share < 0.5 or full.returncode:  # pages are shared out: most of the room may be enough
        print(one_line_of(full, place))
    job.check_whole(place)
    disk(f"size={_ROOM}")
    again = job.run(place)
    assert again.returncode == 0, again.stderr
    job.check_finished(place, undisturbed)


@pytest.mark.skipif(not seccomp.IS_KNOWN, reason="filters system calls of Linux on x86-64")
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_while_it_is_written_is_one_line(job, error, seed, tmp_path):
    undisturbed, notes = jobs.new(tmp_path, "undisturbed"), tmp_path / "changes"
    noting = partial(plugs.note_changes, str(undisturbed), str(notes))
    done = job.run(undisturbed, first=noting)
    assert done.returncode == 0, done.stderr
    changes = notes.read_text().splitlines()
    for i, number in enumerate(plugs.chosen(3, len(changes), seed + error)):
        print(f"{errno.errorcode[error]} from change {number} on: {changes[number]}")
        place = jobs.new(tmp_path, i)
        failing = partial(plugs.fail_calls, plugs.WRITES, error)
        # The filter takes pipes for files, by which several processes speak with each other.
        alone = ("--num_workers=1",) if "convert" in job.script else ()
        at_change = partial(plugs.at_change, str(place), number, failing)
        failed = job.run(place, *alone, first=at_change)
        # What is only nice to have, such as the last plot, may be left out with a word.
        if failed.returncode:
            print(one_line_of(failed, place))
        job.check_whole(place)
        again = job.run(place)
        assert again.returncode == 0, again.stderr
        job.check_finished(place, undisturbed)
        shutil.rmtree(place)


@pytest.mark.skipif(not seccomp.IS_KNOWN, reason="filters system calls of Linux on x86-64")
@pytest.mark.parametrize("name", ["training", "evaluation"])
def test_a_disk_that_fails_while_records_are_read_is_one_line(all_jobs, name, tmp_path):
    job, place = all_jobs[name], jobs.new(tmp_path, name)
    failing = partial(plugs.fail_calls, plugs.READS, errno.EIO)
    failed = job.run(place, first=partial(plugs.at_change, str(place), 0, failing))
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr, failed.stderr[-2500:]
    (line,) = [line for line in failed.stderr.splitlines() if ".py: error: " in line]
    assert "Input/output error" in line or "ckpt" in line, line
    again = job.run(place)
    assert again.returncode == 0, again.stderr


@pytest.mark.skipif(os.name != "posix", reason="modes of folders are POSIX's")
def test_a_folder_without_permission_is_one_line(job, tmp_path):
    place = jobs.new(tmp_path, "locked")
    place.chmod(0o555)
    first = plugs.obey_permissions if os.geteuid() == 0 else None
    line = one_line_of(job.run(place, first=first), place)
    assert "ermission denied" in line, line
    assert not any(place.iterdir())
    place.chmod(0o755)
    again = job.run(place, first=first)
    assert again.returncode == 0, again.stderr


def test_a_disk_that_may_only_be_read_is_one_line_and_nothing_is_lost(job, disk, tmp_path):
    place = disk(f"size={_ROOM}")
    assert job.run(place).returncode == 0
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    disk("ro")
    done = job.run(place, "--max_number_of_steps=30") if "train" in job.script else job.run(place)
    line = one_line_of(done, place)
    assert "ead-only file system" in line or "readonly database" in line, line
    assert before == {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_inputs_on_a_disk_that_may_only_be_read_are_enough(colours, disk, tmp_path):
    place = disk(f"size={_ROOM}")
    subprocess.run(["cp", "-r", str(colours), str(place / "colours")], check=True)
    photographs = jobs.photographs(place / "photographs", 4)
    trained = jobs.tiny_training(place / "trained")
    disk("ro")
    colours = place / "colours"
    for one in (
        jobs.conversion(photographs),
        jobs.training(colours),
        jobs.evaluation(colours, trained),
        jobs.export(colours, trained),
        jobs.search(colours, tmp_path),
    ):
        done = one.run(tmp_path)
        assert done.returncode == 0, (one.script, done.stderr)
