"""The training script as its users run it: one process a test or two."""

import json
import resource
import signal

import numpy as np
import pytest

from nets import checkpoints
from tests.conftest import shorten_mobilenet
from tests.forked import ROOT, Script, run_script
from training import rate_finder

SCRIPT = "train_image_classifier.py"
SMALL = ("--model_name=mobilenet_v1_025", "--train_image_size=32", "--batch_size=8")


def train(colours, train_dir, *flags, first=shorten_mobilenet):
    where = (f"--dataset_dir={colours}", f"--train_dir={train_dir}")
    return run_script(SCRIPT, *where, *SMALL, *flags, first=first)


def start(*flags):
    return Script(SCRIPT, *flags, first=shorten_mobilenet)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "say where the data is"),
        (("--dataset_dir=x", "--master=grpc://host"), "--master=grpc://host: TensorFlow sessions"),
        (("--dataset_dir=x", "--num_ps_tasks=2"), "--num_ps_tasks=2: parameter servers are gone"),
        (("--dataset_dir=x", "--quantize_delay=100"), "quantized training is gone"),
        (("--dataset_dir=x", "--worker_replicas=2"), "needs the workers' addresses"),
        (("--dataset_dir=x", "--moving_average_decay=2"), "must lie between 0 and 1"),
        (("--dataset_dir=x", "--profile_steps=10"), "write the first and the last step"),
        (("--dataset_dir=x", "--optimizer=sdg"), "--optimizer=sdg"),
        (("--dataset_dir=x", "--model_name=inception_v33"), "Did you mean inception_v3"),
        (("--dataset_dir=x", "stray"), "unexpected argument 'stray'"),
        (("--datset_dir=x",), "datset_dir"),
    ],
)
def test_usage_errors_are_one_line_with_exit_code_2(flags, message):
    result = run_script(SCRIPT, *flags)
    assert result.returncode == 2
    error, hint = result.stderr.strip().splitlines()
    assert message in error
    assert hint == f"Try: python {SCRIPT} --help"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--dataset_dir=nowhere",), "nowhere"),
        (("--path_to_csv=none.csv",), "--path_to_csv=none.csv: there is no such file"),
        (("--preprocessing_name=inceptoin",), "inception"),
        (("--trainable_scopes=MobilenetV1/Logit5",), "no variable in MobilenetV1/Logit5"),
    ],
)
def test_bad_input_is_one_line_with_exit_code_1(colours, tmp_path, flags, message):
    result = run_script(
        SCRIPT, f"--dataset_dir={colours}", *SMALL, *flags, f"--train_dir={tmp_path}/run"
    )
    assert result.returncode == 1, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert message in result.stderr
    assert not (tmp_path / "run").exists()  # a failed start leaves nothing


def test_flags_spelled_as_in_old_command_lines(colours, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("1.jpg,blue\n2.jpg,green\n3.jpg,red\n")
    result = run_script(
        SCRIPT,
        *("--model_name", "mobilenet_v1_025", "--max_number_of_steps", "2"),
        *("--clone_on_cpu", "True", "--train_dir", f"{tmp_path}/run/", "--batch_size", "8"),
        *("--train_image_size", "32", "--chemin_csv", str(table)),
        *("--tfrecord_file", str(colours / "colours_train-*.tfrecord")),
        first=shorten_mobilenet,
    )
    assert result.returncode == 0, result.stderr
    assert "step 2/2" in result.stdout
    config = json.loads((tmp_path / "run/run.json").read_text())
    assert config["labels"] == ["blue", "green", "red"]
    assert config["flags"]["clone_on_cpu"] is True


def test_killed_and_resumed_is_bit_identical_to_uninterrupted(colours, tmp_path):
    steady = ("--deterministic", "--moving_average_decay=0.9", "--log_every_n_steps=1")
    assert train(colours, tmp_path / "whole", *steady, "--max_number_of_steps=12").returncode == 0
    first = train(colours, tmp_path / "parts", *steady, "--max_number_of_steps=7")
    assert first.returncode == 0, first.stderr
    flags = (f"--dataset_dir={colours}", f"--train_dir={tmp_path}/parts", *SMALL, *steady)
    killed = start(*flags, "--max_number_of_steps=1000000", "--save_interval_secs=0")
    for line in killed.stdout:
        if line.startswith("step 9"):
            break
    killed.kill()
    killed.wait()
    # What the run knows of itself, such as its averages, need not be said again.
    last = train(
        *(colours, tmp_path / "parts", "--deterministic", "--max_number_of_steps=12"),
    )
    assert last.returncode == 0, last.stderr
    assert "Resuming from" in last.stdout and "model.ckpt-7" in last.stdout
    whole = checkpoints.read(str(tmp_path / "whole"))
    parts = checkpoints.read(str(tmp_path / "parts"))
    assert whole.names == parts.names
    for name in whole.names:
        np.testing.assert_array_equal(whole.get(name), parts.get(name), err_msg=name)
    again = train(colours, tmp_path / "parts", *steady, "--max_number_of_steps=12")
    assert "Already at step 12" in again.stdout
    other = train(
        colours, tmp_path / "parts", "--train_image_size=48", "--moving_average_decay=0.5"
    )
    assert other.returncode == 1
    assert "--train_image_size=48, but the run has 32" in other.stderr
    assert "--moving_average_decay=0.5, but the run has 0.9" in other.stderr


def test_sigterm_saves_and_a_second_process_is_refused(colours, tmp_path):
    flags = (f"--dataset_dir={colours}", f"--train_dir={tmp_path}/run", *SMALL)
    process = start(*flags, "--log_every_n_steps=1")
    for line in process.stdout:
        if line.startswith("step 2"):
            break
    second = run_script(SCRIPT, *flags)
    assert second.returncode == 1
    assert f"process {process.pid} on " in second.stderr
    assert " is training there" in second.stderr
    process.send_signal(signal.SIGTERM)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Stopped by SIGTERM" in rest
    assert checkpoints.latest(f"{tmp_path}/run")


def test_fine_tuning_reports_what_it_restores(colours, tmp_path):
    zoo = ROOT / "tests/fixtures/slim_parity/checkpoints/zoo_v1/mobilenet_v1_0.25_128.ckpt"
    scopes = "MobilenetV1/Logits"
    without = train(colours, tmp_path / "run", f"--checkpoint_path={zoo}", first=None)
    assert without.returncode == 1
    assert f"--checkpoint_exclude_scopes={scopes}" in without.stderr
    result = train(
        colours,
        tmp_path / "run",
        f"--checkpoint_path={zoo}",
        f"--checkpoint_exclude_scopes={scopes}",
        f"--trainable_scopes={scopes}",
        "--max_number_of_steps=3",
        first=None,
    )
    assert result.returncode == 0, result.stderr
    assert "2 excluded" in result.stdout
    assert "--trainable_scopes: MobilenetV1/Logits catches 2 variables" in result.stdout
    trained, given = checkpoints.read(str(tmp_path / "run")), checkpoints.read(str(zoo))
    for name in given.names:
        if not name.startswith(scopes):
            np.testing.assert_array_equal(trained.get(name), given.get(name), err_msg=name)


def test_two_clones_on_the_processor(colours, tmp_path):
    flags = ("--clone_on_cpu", "--num_clones=2", "--max_number_of_steps=4", "--jit_compile=on")
    flags += ("--recalibrate_batch_norm=2",)
    result = train(colours, tmp_path / "run", *flags)
    assert result.returncode == 0, result.stderr
    assert "Recalibrating batch norm over 2 batches" in result.stdout
    assert "of the same 256 training images" in result.stdout
    assert "2 clones on CPU:0, CPU:1" in result.stdout
    reader = checkpoints.read(str(tmp_path / "run"))
    assert reader.get("global_step") == 4
    assert reader.get("run_state/examples") == 4 * 2 * 8


SMALLEST = ("--model_name=small_cnn", "--small_cnn_filters=4", "--train_image_size=16")
SMALLEST += ("--small_cnn_dense_units=4", "--max_number_of_steps=6")


def train_smallest(colours, train_dir, *flags):
    where = (f"--dataset_dir={colours}", f"--train_dir={train_dir}")
    return run_script(SCRIPT, *where, *SMALLEST, *flags)


def test_a_learning_rate_is_found_and_drawn(colours, tmp_path):
    flags = ("--find_learning_rate", "--batch_size=8", "--optimizer=momentum")
    result = train_smallest(colours, tmp_path / "run", *flags)
    assert result.returncode == 0, result.stderr
    named = float(result.stdout.splitlines()[-1].partition("Try --learning_rate=")[2])
    table = (tmp_path / "run" / "learning_rates.csv").read_text().splitlines()
    rates, losses = zip(*(map(float, row.split(",")) for row in table[1:]), strict=True)
    assert rates[0] == pytest.approx(1e-7) and rates[-1] <= 10
    # The rate lies where the loss falls: after the plateau, before the lowest loss.
    assert named == pytest.approx(rate_finder.steepest(rates, losses), rel=0.5)
    assert 1e-4 < named < rates[losses.index(min(losses))]
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {".lock", "learning_rates.csv", "learning_rates.png"}


def at_most_20_kilobytes_a_file():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_full_disk_ends_the_run_with_the_last_checkpoint_whole(colours, tmp_path):
    wide = ("--batch_size=8", "--small_cnn_filters=48")
    first = train_smallest(colours, tmp_path / "run", *wide)
    assert first.returncode == 0, first.stderr
    before = checkpoints.read(str(tmp_path / "run"))

    where = (f"--dataset_dir={colours}", f"--train_dir={tmp_path}/run")
    flags = (*SMALLEST, *wide, "--max_number_of_steps=9", "--save_summaries_secs=0")
    full = run_script(SCRIPT, *where, *flags, first=at_most_20_kilobytes_a_file)
    assert full.returncode == 1, full.stderr
    (line,) = full.stderr.splitlines()
    assert f"{tmp_path}/run/" in line and "could not be written: " in line
    assert not list((tmp_path / "run").glob("*.tmp"))
    after = checkpoints.read(str(tmp_path / "run"))
    assert after.get("global_step") == 6
    for name in before.names:
        np.testing.assert_array_equal(after.get(name), before.get(name))
    again = train_smallest(colours, tmp_path / "run", *wide, "--max_number_of_steps=9")
    assert again.returncode == 0


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--num_epochs=0",), 2, "--num_epochs=0: trains nothing"),
        (("--learning_rate=nan",), 2, "--learning_rate=nan: write a number"),
        (("--worker_hosts=here",), 2, "write HOST:PORT"),
        (("--worker_hosts=a:99999,b:1",), 2, "a port from 1 to 65535"),
        (("--worker_hosts=a:1,a:1",), 2, "a:1 stands there twice"),
        (("--task=3",), 2, "--worker_hosts lists none"),
        (("--worker_hosts=a:1,b:1", "--task=3"), 2, "--worker_hosts lists 2 workers"),
        (("--profile_steps=5,2",), 2, "write the first and the last step"),
        (("--batch_size=0",), 2, "write a whole number above 0, or auto"),
        (("--unfreeze=MobilenetV1",), 2, "write it like 1000:InceptionV3/Mixed_7"),
        (("--progressive_resizing=a:0",), 2, "write it like 128:0,192:2000,250:4000"),
        (("--early_stopping_patience=2",), 2, "needs --eval_every_n_steps"),
        (("--class_weights=pink:2",), 1, "one of the classes blue, green, red"),
        (("--eval_every_n_steps=2", "--eval_split_name=none"), 1, "leave --eval_every_n_steps out"),
    ],
)
def test_flags_of_the_loop_that_make_no_sense(colours, tmp_path, flags, code, message):
    result = train_smallest(colours, tmp_path / "run", *flags)
    assert result.returncode == code, result.stderr
    assert message in result.stderr.splitlines()[0]
