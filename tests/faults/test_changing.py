"""What changes under a job while it runs: its data, the clock, another process in its folder."""

import json
import os
import time
from functools import partial

import pytest

from nets import checkpoints
from tests.conftest import write_colours
from tests.faults import jobs
from tests.forked import Script

pytestmark = pytest.mark.faults
ENDLESS = ("--max_number_of_steps=1000000", "--eval_every_n_steps=0", "--average_checkpoints=0")


def started(job, place, *more, until="step 4"):
    """A job that has come to a line with these words."""
    process = Script(job.script, *job.words(place), *more)
    for line in process.stdout:
        if until in line:
            return process
    raise AssertionError(process.communicate(60))


def end_of(process, seconds=60):
    """The exit code of a process, and what it calls an error; a trace is none."""
    _, errors = process.communicate(seconds)
    assert "Traceback" not in errors, errors
    return process.returncode, [line for line in errors.splitlines() if ".py: error: " in line]


@pytest.fixture
def data(tmp_path):
    """A dataset of this test's own, and its training shard."""
    folder = write_colours(tmp_path / "data", per_class=4)
    return folder, next(folder.glob("*_train-*"))


def test_a_shard_that_vanishes_is_named(data, tmp_path):
    folder, shard = data
    job = jobs.training(folder)
    process = started(job, tmp_path, *ENDLESS)
    shard.rename(tmp_path / "aside")
    code, errors = end_of(process)
    assert code == 1 and len(errors) == 1 and str(shard) in errors[0], errors
    jobs.check_files(tmp_path / "run")
    (tmp_path / "aside").rename(shard)
    again = started(job, tmp_path, *ENDLESS, until="step ")
    again.kill()
    again.wait()


def test_a_shard_that_is_cut_off_is_named(data, tmp_path):
    folder, shard = data
    process = started(jobs.training(folder), tmp_path, *ENDLESS)
    os.truncate(shard, shard.stat().st_size // 2)
    code, errors = end_of(process)
    assert code == 1 and len(errors) == 1 and str(shard) in errors[0], errors
    jobs.check_files(tmp_path / "run")


@pytest.mark.parametrize("how", ["whole", "half", "none"])
def test_a_shard_with_other_records_is_named(data, tmp_path, how):
    """Whole records more or less leave no position in the data as it was; half a one is damage."""
    folder, shard = data
    process = started(jobs.training(folder), tmp_path, *ENDLESS)
    content = shard.read_bytes()
    shard.write_bytes({"whole": content * 2, "half": content + content[:100], "none": b""}[how])
    code, errors = end_of(process)
    assert code == 1 and len(errors) == 1 and str(shard) in errors[0], errors
    jobs.check_files(tmp_path / "run")
    if how == "whole":
        done = jobs.training(folder).run(tmp_path, "--max_number_of_steps=10")
        assert done.returncode == 0, done.stderr


def test_a_shard_that_changes_under_an_evaluation_is_noticed(data, all_jobs, tmp_path):
    folder, _ = data
    shard = next(folder.glob("*_validation-*"))
    trained = jobs.tiny_training(tmp_path / "trained")
    job = jobs.evaluation(folder, trained)
    content = shard.read_bytes()
    for changed in (content * 2, content[: len(content) // 2], None):
        place = jobs.new(tmp_path, len(changed or ""))
        process = started(job, place, "--batch_size=1", until="Data: ")
        if changed is None:
            shard.unlink()
        else:
            shard.write_bytes(changed)
        code, errors = end_of(process)
        # The pictures that were read before count; else one line says what is wrong.
        assert code == 0 or (len(errors) == 1 and str(shard) in errors[0]), errors
        jobs.check_files(place / "eval")
        shard.write_bytes(content)
    assert job.run(tmp_path).returncode == 0


def jumping(seconds: float):
    """Each look at the clock is so much after the last; what measures durations goes on."""
    real, calls = time.time, iter(range(10**9))
    time.time = lambda: real() + seconds * next(calls)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_harms_no_job(job, hours, tmp_path):
    undisturbed = jobs.new(tmp_path, "undisturbed")
    assert job.run(undisturbed).returncode == 0
    place = jobs.new(tmp_path, "jumped")
    done = job.run(place, first=partial(jumping, 3600 * hours))
    assert done.returncode == 0, done.stderr
    job.check_finished(place, undisturbed)


def test_files_of_the_future_and_of_1970_are_files_like_others(data, tmp_path):
    folder, _ = data
    trained = jobs.tiny_training(tmp_path / "trained")
    kept = "--keep_checkpoint_every_n_hours=0.001"
    for seconds in (time.time() + 10 * 365 * 86_400, 0):
        for place in (folder, trained, tmp_path / "run"):
            for path in place.rglob("*") if place.exists() else ():
                os.utime(path, (seconds, seconds))
        steps = 12 if seconds else 16
        words = (kept, f"--max_number_of_steps={steps}")
        done = jobs.training(folder).run(tmp_path, *words)
        assert done.returncode == 0, done.stderr
        reader = checkpoints.read(checkpoints.latest(str(tmp_path / "run")))
        assert checkpoints.global_step(reader) == steps
        jobs.check_checkpoints(tmp_path / "run")
        for job in (jobs.evaluation(folder, trained), jobs.export(folder, trained)):
            done = job.run(tmp_path)
            assert done.returncode == 0, done.stderr


def test_a_second_run_in_the_folder_is_refused_and_names_the_first(colours, tmp_path):
    job = jobs.training(colours)
    first = started(job, tmp_path, *ENDLESS)
    for more in ((), ("--find_learning_rate",)):
        second = job.run(tmp_path, *ENDLESS, *more)
        (line,) = second.stderr.strip().splitlines()
        assert second.returncode == 1 and f"process {first.pid} on " in line, line
    first.send_signal(15)
    assert end_of(first)[0] == 0
    jobs.check_checkpoints(tmp_path / "run")


@pytest.mark.parametrize("name", ["conversion", "evaluation", "export", "search"])
def test_several_at_once_in_one_place_leave_it_whole(all_jobs, name, tmp_path):
    """A second conversion and export are refused; evaluations and searches share the place."""
    job, undisturbed = all_jobs[name], jobs.new(tmp_path, "undisturbed")
    assert job.run(undisturbed).returncode == 0
    for i in range(5):
        place = jobs.new(tmp_path, i)
        processes = []
        for _ in range(3):
            processes.append(Script(job.script, *job.words(place), first=job.first))
            time.sleep(0.05 * i)
        ends = [end_of(process) for process in processes]
        print(ends)
        assert any(code == 0 for code, _ in ends), ends
        for code, errors in ends:
            refused = code == 1 and len(errors) == 1 and "another " in errors[0]
            assert code == 0 or (refused and name in ("conversion", "export")), errors
        job.check_finished(place, undisturbed)


def test_two_evaluations_of_different_nets_do_not_mix_their_files(colours, tmp_path):
    """What lies there in the end is of one of them."""
    nets = []
    for name, steps in (("a", 2), ("b", 4)):
        done = jobs.training(colours, f"--max_number_of_steps={steps}").run(
            jobs.new(tmp_path, name)
        )
        assert done.returncode == 0, done.stderr
        nets.append(jobs.evaluation(colours, tmp_path / name / "run"))
    for i in range(6):
        place = jobs.new(tmp_path, i)
        processes = []
        for job in nets[:: 1 if i % 2 else -1]:
            processes.append(Script(job.script, *job.words(place)))
            time.sleep(0.02 * i)
        for process in processes:
            assert end_of(process)[0] == 0
        folder = place / "eval"
        jobs.check_files(folder)
        checkpoint = json.loads((folder / "metrics.json").read_text())["checkpoint"]
        page = (folder / "report.html").read_text()
        assert checkpoint in page, (checkpoint, place)
