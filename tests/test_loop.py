import math
import os
import signal
import subprocess
import time

import pytest
import tensorflow as tf

from tests.forked import Script
from tests.test_step import ALONE, batches, make_step
from training import loop


class Recorder:
    def __init__(self):
        self.logged, self.saved = [], []

    def train(
        self, step, iterator=None, last_step=12, log_every=5, save_secs=600.0, stop=None, pauses=()
    ):
        plan = loop.Plan(
            4, last_step, log_every, save_secs, self.logged.append, self.saved.append, pauses
        )
        return loop.train(step, iterator or batches(), ALONE, plan, stop or loop.StopRequest())


def test_is_due_repeats_and_closes_with_the_last_step():
    assert [n for n in range(1, 8) if loop.is_due(n, 3, 7)] == [3, 6, 7]
    assert not any(loop.is_due(n, 0, 7) for n in range(8))


def test_logs_at_the_first_step_each_interval_and_the_end():
    recorder = Recorder()
    assert recorder.train(make_step()[0]) == 12
    assert [progress.step for progress in recorder.logged] == [1, 5, 10, 12]
    assert recorder.saved == [12]
    last = recorder.logged[-1]
    assert last.seconds_left == 0
    assert last.images_per_second > 0
    assert 0 <= last.input_share <= 1


def test_a_call_is_one_step_until_a_step_was_timed(monkeypatch):
    counts = []
    step, _ = make_step()
    original = step.run
    monkeypatch.setattr(step, "run", lambda it, n: counts.append(n) or original(it, n))
    Recorder().train(step, log_every=100)
    assert counts[:2] == [1, 1] and sum(counts) == 12


def test_calls_are_short_enough_to_answer_a_signal(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    counts = []

    class Slow:
        step = tf.Variable(0, dtype=tf.int64)

        def run(self, iterator, count):
            counts.append(count)
            clock[0] += 0.3 * count
            return {"loss": 1.0, "learning_rate": 0.1, "input_seconds": 0.0}

    Recorder().train(Slow(), log_every=100)
    assert counts == [1, 1, 3, 3, 3, 1]


def test_nothing_is_logged_where_nobody_asks():
    recorder = Recorder()
    recorder.train(make_step()[0], log_every=0)
    assert recorder.logged == [] and recorder.saved == [12]


def test_saves_whenever_the_interval_is_over():
    recorder = Recorder()
    recorder.train(make_step()[0], save_secs=1e-9)
    assert recorder.saved[-1] == 12
    assert len(recorder.saved) > 1


def test_a_loss_that_is_not_finite_stops_the_run_without_saving():
    recorder = Recorder()
    with pytest.raises(ValueError, match="The loss became nan at step 1; largest gradients: 0 "):
        recorder.train(make_step(factor=math.nan)[0])
    assert recorder.saved == []


def test_a_signal_saves_and_stops_and_a_second_one_is_fatal():
    recorder, step = Recorder(), make_step()[0]
    endless = batches()
    before = signal.getsignal(signal.SIGTERM)
    with loop.StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        reached = recorder.train(step, endless, last_step=None, stop=stop)
        assert signal.getsignal(signal.SIGTERM) != before
    assert stop.reason == "SIGTERM"
    assert recorder.saved == [reached]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_closed_terminal_is_a_signal_but_for_nohup():
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup, too
    try:
        with loop.StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.reason == "SIGHUP" and stop.is_urgent
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with loop.StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.reason is None
    finally:
        signal.signal(signal.SIGHUP, former)


@pytest.mark.parametrize(("gap", "code"), [(0.01, 7), (1.5, 7), (2.5, 128 + signal.SIGTERM)])
def test_one_wish_sent_twice_is_one(gap, code):
    program = """
import sys, time
from training import loop
with loop.StopRequest() as stop:
    print("waits", flush=True)
    end = time.monotonic() + 3.5
    while time.monotonic() < end:
        time.sleep(0.01)
sys.exit(7 if stop.reason == "SIGTERM" else 1)
"""
    process = Script("-c", program)
    assert process.stdout.readline() == "waits\n"
    process.send_signal(signal.SIGTERM)
    time.sleep(gap)
    process.send_signal(signal.SIGTERM)
    assert abs(process.wait(timeout=20)) in (code, signal.SIGTERM if code > 7 else code)


def test_a_second_signal_ends_a_process_that_waits_in_tensorflow():
    # One call of the C library's that goes on after a signal, as TensorFlow's do: a lock that the
    # same thread holds.
    code = """
import ctypes
from training import loop
with loop.StopRequest():
    mutex = ctypes.create_string_buffer(256)
    lock = ctypes.CDLL(None).pthread_mutex_lock
    lock(mutex)
    print("waits", flush=True)
    lock(mutex)
"""
    process = Script("-c", code)
    assert process.stdout.readline() == "waits\n"
    time.sleep(1)  # for it to be in the lock
    process.send_signal(signal.SIGTERM)
    # The first is answered at once, though Python's own handler can't run.
    said = process.stdout.readline()
    assert said == "Stopping after this step; Ctrl-C again discards it.\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=2.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 128 + signal.SIGTERM
    process.communicate()


def test_pauses_come_at_their_steps_and_can_end_the_run():
    seen = []

    def act(step):
        seen.append(step)
        return "had enough" if step == 9 else None

    recorder, stop = Recorder(), loop.StopRequest()
    pauses = [
        loop.Pause(act, every=4, at=frozenset({2, 9})),
        loop.Pause(lambda step: None, every=3),
    ]
    assert recorder.train(make_step()[0], stop=stop, pauses=pauses) == 9
    assert seen == [2, 4, 8, 9]
    assert (stop.reason, recorder.saved) == ("had enough", [9])


def test_what_is_overdue_is_saved_before_a_pause_that_may_be_long():
    recorder = Recorder()
    seen = []
    pause = loop.Pause(lambda step: seen.append(list(recorder.saved)), every=4)
    recorder.train(make_step()[0], save_secs=1e-9, pauses=[pause])
    assert [saved[-1] for saved in seen] == [4, 8, 12]
    assert recorder.saved[-1] == 12 and len(set(recorder.saved)) == len(recorder.saved)


def test_a_signal_counts_more_than_what_a_pause_finds():
    def act(step):
        os.kill(os.getpid(), signal.SIGTERM)
        return "patience"

    recorder = Recorder()
    with loop.StopRequest() as stop:
        reached = recorder.train(
            make_step()[0], stop=stop, pauses=[loop.Pause(act, at=frozenset({3}))]
        )
    assert (reached, stop.reason, stop.is_urgent, stop.is_planned) == (3, "SIGTERM", True, False)


def test_a_time_limit_ends_the_run():
    recorder, stop = Recorder(), loop.StopRequest(max_seconds=1e-9)
    assert recorder.train(make_step()[0], last_step=None, stop=stop) == 1
    assert stop.reason == "the time limit"
