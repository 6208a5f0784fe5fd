"""The search for the best settings: what may be tried, and how trials run, end and are kept."""

import functools
import json
import os
import pathlib
import re
import signal
import sqlite3
import subprocess
import time

import pytest

from foundation.errors import InputError, UsageError
from runs import search_space, trial_process
from runs.options import NOT_SEARCHED, TrainOptions, TuneOptions
from tests.forked import Script

optuna = pytest.importorskip("optuna")
KNOWN = search_space.searchable(TrainOptions, NOT_SEARCHED)

# Stands for train_image_classifier.py: "learns" at once, the better the nearer its rate is to 0.1.
TRAINING = """
import os, sys, time
given = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:])
rate, folder = float(given["learning_rate"]), given["train_dir"]
print("training with", given)
if rate > 0.9:
    sys.exit("train_image_classifier.py: error: the loss is not finite")
accuracy = 1 - abs(rate - 0.1)
with open(os.path.join(folder, "history.csv"), "w") as file:
    file.write("step,loss,eval_accuracy\\n")
    for step in range(1, 6):
        file.write(f"{step},,{accuracy * step / 5}\\n5{step},0.5,\\n")
        file.flush()
        time.sleep(float(os.environ.get("SECONDS_A_STEP", 0)))
"""


@pytest.fixture
def searched(colours, tmp_path, monkeypatch):
    """A function that searches with a stand-in for the training; and the lines it says."""
    from runs import tune

    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    monkeypatch.setattr(trial_process, "SCRIPT", script)
    monkeypatch.setattr(tune, "POLL_SECS", 0.05)
    # With this seed both of two choices are tried, the worse one also late enough to be pruned.
    sampler = functools.partial(optuna.samplers.TPESampler, seed=2)
    monkeypatch.setattr(optuna.samplers, "TPESampler", sampler)
    lines = []

    def search(**given):
        defaults = {"dataset_dir": str(colours), "train_dir": str(tmp_path / "tuned")}
        defaults |= {"search": "learning_rate=0.01:0.5", "max_trials": 3, "num_epochs": 10.0}
        return tune.tune(TuneOptions.of(**defaults | given), lines.append)

    return search, lines


def parse(text):
    return search_space.parse(text, KNOWN)


def test_a_search_names_options_with_ranges_and_choices():
    space = parse(
        "learning_rate=log:1e-5:1e-2; optimizer=adam,momentum;small_cnn_filters=8,16|16,32;"
        "batch_size=16:64;horizontal_flip=true,false"
    )
    rate, size = space["learning_rate"], space["batch_size"]
    assert (rate.low, rate.high, rate.log) == (1e-5, 1e-2, True)
    assert (size.low, size.high, size.log) == (16, 64, False)
    assert space["small_cnn_filters"].choices == ("8,16", "16,32")
    assert space["horizontal_flip"].choices == ("true", "false")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no option"),
        ("learning_rate", "has no values"),
        ("train_dir=a,b", "train_dir is no option of a training that can be searched"),
        ("lerning_rate=1:2", "can be searched. Did you mean learning_rate"),
        ("momentum=0.5:2", "--momentum=2.0: write a number from 0 to 1"),
        ("optimizer=adam,adamax", "--optimizer=adamax: unknown. Choose of"),
        ("learning_rate=log:0:1", "needs 0 < LOW < HIGH"),
        ("learning_rate=1:0.1", "needs LOW < HIGH"),
        ("optimizer=log:1:2", "log:LOW:HIGH is for numbers"),
        ("seed=1:2;seed=3:4", "seed is named twice"),
    ],
)
def test_what_can_t_be_searched_is_a_usage_error(text, said):
    with pytest.raises(UsageError, match=rf"--search: .*{re.escape(said)}"):
        parse(text)


def test_an_option_is_tried_only_where_it_means_something():
    space = parse(
        "small_cnn_dropout=0.2:0.6;model_name=small_cnn,mobilenet_v1;momentum=0.5:0.9;"
        "optimizer=adam,momentum"
    )
    for net, optimizer in (("small_cnn", "adam"), ("mobilenet_v1", "momentum")):
        fixed = {"model_name": net, "optimizer": optimizer}
        fixed |= {"small_cnn_dropout": 0.3, "momentum": 0.6}
        found = search_space.suggest(space, {}, optuna.trial.FixedTrial(fixed))
        assert ("small_cnn_dropout" in found) is (net == "small_cnn")
        assert ("momentum" in found) is (optimizer == "momentum")
    with pytest.raises(UsageError, match="small_cnn_dropout says nothing without --model_name"):
        search_space.check_used(parse("small_cnn_dropout=0:1"), {"model_name": "inception_v3"})


def test_a_search_needs_a_length_and_something_to_try():
    known = {"search": "model_name=small_cnn,big_cnn", "num_epochs": 1.0}
    for given, said in (
        ({}, "--search is missing"),
        ({"search": "seed=1:2"}, "how long a trial"),
        (known, "--model_name=big_cnn"),
    ):
        options = TuneOptions.of(dataset_dir="animals", **given)
        with pytest.raises(UsageError, match=said):
            options.tuning.check()
            options.check()


def test_the_best_trial_is_found_and_its_command_is_whole(searched, tmp_path):
    search, lines = searched
    found = search(max_trials=6, label_smoothing=0.1)
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/tuned/study.db")
    assert found.accuracy == study.best_value and found.num_trials == len(study.trials) == 6
    rate = f"--learning_rate={study.best_params['learning_rate']:.6g}"
    for flag in (rate, "--label_smoothing=0.1", "--num_epochs=10.0", "--eval_every_n_steps=1"):
        assert flag in found.command
    assert f"--train_dir={tmp_path}/tuned/winner" in found.command
    assert any(found.command in line for line in lines)
    assert found.folder.endswith(f"trial_{study.best_trial.number:04}")
    page = (tmp_path / "tuned/tuning.html").read_text(encoding="utf-8")
    assert page.count('class="plotly-graph-div"') == 4 and rate in page
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="?https?:', page)
    assert sum(" of 6 trials" in line and "best 0." in line for line in lines) == 6
    assert search(max_trials=6, label_smoothing=0.1).num_trials == 6  # nothing left to do


def test_another_search_does_not_go_on_with_the_study(searched):
    search, _ = searched
    search(max_trials=1)
    with pytest.raises(InputError, match="is of another search"):
        search(search="seed=1:9")


def test_a_file_that_is_no_study_is_refused(searched, tmp_path):
    search, _ = searched
    (tmp_path / "notes.db").write_text("a text " * 200)
    said = "can't be opened as a study of Optuna's: "
    for path in (tmp_path / "notes.db", tmp_path):
        with pytest.raises(InputError, match=f"--study={path}: {said}"):
            search(study=str(path))


def test_ctrl_c_shows_the_best_so_far_and_costs_no_trial(searched, tmp_path, monkeypatch):
    search, lines = searched
    wait = trial_process.TrialProcess.wait

    def stopped(self, seconds):
        if self.folder.endswith("trial_0001"):
            raise KeyboardInterrupt
        return wait(self, seconds)

    monkeypatch.setattr(trial_process.TrialProcess, "wait", stopped)
    with pytest.raises(KeyboardInterrupt):
        search()
    assert any(line.startswith("The best of 1 trials") for line in lines)
    assert search().num_trials == 3
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/tuned/study.db")
    assert len(study.trials) == 4 and study.trials[2].params == study.trials[1].params


def test_hopeless_trials_are_ended(searched, tmp_path, monkeypatch):
    search, lines = searched
    monkeypatch.setenv("SECONDS_A_STEP", "0.15")
    found = search(max_trials=10, search="learning_rate=0.1,0.85")
    pruned = [line for line in lines if "ended after" in line]
    assert found.accuracy == 1.0
    assert pruned and all("learning_rate=0.85" in line for line in pruned)


def test_a_crash_is_a_failed_trial_whose_log_is_kept(searched, tmp_path):
    search, lines = searched
    search(max_trials=4, search="learning_rate=0.1,0.95")
    failed = [line for line in lines if "failed: train_image_classifier.py: error" in line]
    assert failed and "learning_rate=0.95" in failed[0]
    log = pathlib.Path(re.search(r"\((\S+)\)", failed[0])[1])
    assert "training with" in log.read_text()


def test_a_search_in_which_all_fails_stops_soon(searched):
    search, lines = searched
    with pytest.raises(InputError, match="each of the 3 trials failed; the last one's log is"):
        search(max_trials=20, search="learning_rate=0.95:0.99")


def test_a_full_disk_under_the_study_is_one_line(searched, tmp_path, monkeypatch):
    from sqlalchemy import exc

    def full(*_, **__):
        said = exc.OperationalError("INSERT", {}, sqlite3.OperationalError("disk is full"))
        raise optuna.exceptions.StorageInternalError("An exception is raised") from said

    search, _ = searched
    monkeypatch.setattr(optuna.storages.RDBStorage, "set_trial_user_attr", full)
    with pytest.raises(OSError, match=r"tuned/study\.db: disk is full\. The same command goes on"):
        search()


def test_the_time_is_that_of_all_trials(searched, monkeypatch):
    search, lines = searched
    monkeypatch.setenv("SECONDS_A_STEP", "0.1")
    began = time.monotonic()
    search(max_trials=1000, max_minutes=2 / 60, pruner="none")
    assert time.monotonic() - began < 20
    assert any("min left" in line for line in lines)


# Searches as another process does, with the stand-in and short waits.
_PROCESS = """
import sys
from runs import trial_process, tune
from runs.options import TuneOptions
trial_process.SCRIPT, tune.POLL_SECS = sys.argv[1], 0.05
tune.HEARTBEAT_SECS, tune.GRACE_SECS = 1, 2
tune.tune(TuneOptions.of(dataset_dir=sys.argv[2], train_dir=sys.argv[3], num_epochs=10.0,
                         search="learning_rate=0.01:0.5", max_trials=3))
"""


def test_a_killed_search_leaves_no_training_and_its_trial_is_repeated(
    searched, colours, tmp_path, monkeypatch
):
    from runs import tune

    search, lines = searched
    words = map(str, (tmp_path / "training.py", colours, tmp_path / "tuned"))
    process = Script("-c", _PROCESS, *words, env=os.environ | {"SECONDS_A_STEP": "20"})
    log = tmp_path / "tuned/trial_0000/log.txt"
    history = log.with_name("history.csv")
    deadline = time.monotonic() + 60
    while not history.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(3)  # the heartbeat's grace
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(tmp_path / "training.py") not in running
    monkeypatch.setattr(tune, "HEARTBEAT_SECS", 1)
    monkeypatch.setattr(tune, "GRACE_SECS", 2)
    search(max_trials=3)
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/tuned/study.db")
    states = [trial.state.name for trial in study.trials]
    assert states[0] == "FAIL" and states.count("COMPLETE") >= 1
    assert study.trials[1].params == study.trials[0].params


def test_two_processes_share_a_study(searched, colours, tmp_path):
    search, _ = searched
    words = map(str, (tmp_path / "training.py", colours, tmp_path / "tuned"))
    other = Script("-c", _PROCESS, *words)
    search(max_trials=3)
    assert other.wait(60) == 0
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/tuned/study.db")
    numbers = [trial.number for trial in study.trials]
    assert numbers == list(range(len(numbers))) and 3 <= len(numbers) <= 4
    assert all(trial.state.name in ("COMPLETE", "PRUNED") for trial in study.trials)


@pytest.mark.slow
def test_real_trainings_are_searched_and_tracked(colours, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    from runs import tune

    monkeypatch.chdir(tmp_path)
    given = {"dataset_dir": str(colours), "train_dir": "tuned", "model_name": "small_cnn"}
    given |= {"train_image_size": 16, "batch_size": 8, "max_number_of_steps": 4, "max_trials": 1}
    given |= {"tracking": "mlflow", "mlflow_uri": f"sqlite:///{tmp_path}/store.db"}
    found = tune.tune(
        TuneOptions.of(**given, search="learning_rate=log:1e-3:1e-1;small_cnn_dropout=0.1:0.5")
    )
    assert 0 <= found.accuracy <= 1 and os.path.exists(f"{found.folder}/best/checkpoint")
    run = json.loads(pathlib.Path(found.folder, "run.json").read_text())
    client = mlflow.MlflowClient(given["mlflow_uri"])
    parent = client.get_run(run["mlflow_run_id"]).data.tags["mlflow.parentRunId"]
    parent = client.get_run(parent)
    assert parent.info.run_name == "tuned" and parent.info.status == "FINISHED"
    assert parent.data.metrics["best/Accuracy"] == found.accuracy
    assert [one.path for one in client.list_artifacts(parent.info.run_id)] == ["tuning.html"]
