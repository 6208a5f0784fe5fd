import math
import os
import signal

import pytest

from tests.test_step import ALONE, batches, make_step
from training import loop


class Recorder:
    def __init__(self):
        self.logged, self.saved = [], []

    def train(
        self, step, iterator=None, last_step=12, log_every=5, save_secs=600.0, stop=None, pauses=()
    ):
        return loop.train(
            step,
            iterator or batches(),
            ALONE,
            4,
            last_step,
            log_every,
            save_secs,
            self.logged.append,
            self.saved.append,
            stop or loop.StopRequest(),
            pauses,
        )


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
    with loop.StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        reached = recorder.train(step, endless, last_step=None, stop=stop)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert stop.reason == "SIGTERM"
    assert recorder.saved == [reached]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


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


def test_a_time_limit_ends_the_run():
    recorder, stop = Recorder(), loop.StopRequest(max_seconds=1e-9)
    assert recorder.train(make_step()[0], last_step=None, stop=stop) == 1
    assert stop.reason == "the time limit"
