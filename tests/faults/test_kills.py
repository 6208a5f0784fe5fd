"""Thirty plugs pulled in each job by the clock, and fifteen between two changes on the disk.

Afterwards no half file passes for a whole one, and the same command ends as if nothing had been.
"""

import os
import shutil
import time
from functools import partial

import pytest

from tests.faults import jobs, plugs

pytestmark = pytest.mark.faults
KILLS = int(os.environ.get("FAULT_KILLS", 30))


def check_recovery(job, place, undisturbed):
    """What must hold after a kill: of what is there, and of the same command."""
    job.check_whole(place)
    again = job.run(place)
    assert again.returncode == 0, again.stderr
    job.check_finished(place, undisturbed)
    shutil.rmtree(place)


def test_a_kill_at_any_moment_loses_nothing(job, seed, tmp_path):
    undisturbed = jobs.new(tmp_path, "undisturbed")
    began = time.monotonic()
    done = job.run(undisturbed)
    lifetime = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    job.check_finished(undisturbed, undisturbed)
    for i, share in enumerate(plugs.moments(KILLS, 1, seed)):
        ended = 0
        while ended == 0:  # again where it was done before, which tells how long it takes
            place = jobs.new(tmp_path, i)
            if i % 2:
                job.former(place)
            print(f"kill {i} after {share * lifetime:.2f} of {lifetime:.2f} s")
            began = time.monotonic()
            ended = plugs.kill_after(
                share * lifetime, job.script, *job.words(place), first=job.first
            )
            assert ended in (None, 0)
            lifetime = min(lifetime, time.monotonic() - began) if ended == 0 else lifetime
            check_recovery(job, place, undisturbed)


def test_a_kill_between_changes_on_the_disk_loses_nothing(job, seed, tmp_path):
    undisturbed = jobs.new(tmp_path, "undisturbed")
    job.former(undisturbed)
    notes = tmp_path / "changes"
    noting = partial(plugs.note_changes, str(undisturbed), str(notes))
    done = job.run(undisturbed, first=noting)
    assert done.returncode == 0, done.stderr
    changes = notes.read_text().splitlines()
    for i, number in enumerate(plugs.chosen(KILLS // 2, len(changes), seed)):
        print(f"kill {i} before change {number} of {len(changes)}: {changes[number]}")
        place = jobs.new(tmp_path, i)
        if i % 3:
            job.former(place)
        killing = partial(plugs.at_change, str(place), number, plugs.kill)
        job.run(place, first=killing)
        check_recovery(job, place, undisturbed)
