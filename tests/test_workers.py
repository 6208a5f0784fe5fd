"""Training by several workers: processes on this machine that share gradients and a folder."""

import glob
import re
import signal
import time

import numpy as np
import pytest

from nets import checkpoints
from tests.conftest import free_ports, shorten_mobilenet
from tests.forked import Script

SCRIPT = "train_image_classifier.py"
WITH_BATCH_NORM = ("--model_name=mobilenet_v1_025", "--train_image_size=32")
SMALLEST = ("--model_name=small_cnn", "--small_cnn_filters=4", "--small_cnn_dense_units=4")
SMALLEST += ("--train_image_size=16",)
EVERYWHERE = ("--clone_on_cpu", "--precision=float32", "--save_summaries_secs=0")


def one_pair_without_dropout():
    """A net with batch norm, soon compiled, whose numbers depend on the images alone."""
    from nets import layers

    shorten_mobilenet()
    layers.Dropout.call = lambda self, x, training=False: x


def begin(colours, folder, *flags, env=None):
    words = (f"--dataset_dir={colours}", f"--train_dir={folder}", *EVERYWHERE, *flags)
    return Script(SCRIPT, *words, env=env, first=one_pair_without_dropout)


def workers(colours, folder, *flags, count=2):
    """The workers of a run, the chief first, and their addresses."""
    hosts = [f"127.0.0.1:{port}" for port in free_ports(count)]
    cluster = f"--worker_hosts={','.join(hosts)}"
    return [begin(colours, folder, *flags, cluster, f"--task={i}") for i in range(count)], hosts


def outputs(*scripts, seconds=200):
    """What scripts wrote that end well."""
    deadline = time.monotonic() + seconds
    found = [one.communicate(timeout=deadline - time.monotonic()) for one in scripts]
    assert not any(script.returncode for script in scripts), found
    return [out for out, _ in found]


def weights(folder):
    """Weights, moving statistics and slots of the optimizer."""
    reader = checkpoints.read(str(folder))
    return {n: reader.get(n) for n in reader.names if n.startswith("MobilenetV1/")}


def difference(one, other):
    """The largest between two nets, of the largest number in each variable."""
    assert one.keys() == other.keys()
    return max(np.abs(one[n] - other[n]).max() / np.abs(one[n]).max() for n in one)


def test_clones_and_workers_give_one_devices_numbers_where_batch_norm_is_synchronised(
    colours, tmp_path
):
    """Each step sees all 24 pictures, so that their order does not count."""
    flags = (*WITH_BATCH_NORM, "--max_number_of_steps=4", "--augment=false")
    flags += ("--optimizer=momentum",)
    flags += ("--learning_rate=0.1", "--learning_rate_decay_type=fixed", "--batch_norm_decay=0.5")
    flags += ("--eval_every_n_steps=2", "--eval_split_name=train")
    half, sync = (*flags, "--batch_size=12"), "--sync_batch_norm"
    (alone,) = outputs(begin(colours, tmp_path / "one", *flags, "--batch_size=24"))
    outputs(begin(colours, tmp_path / "clones", *half, "--num_clones=2", sync))
    pair, _ = workers(colours, tmp_path / "workers", *half, sync)
    chief, other = outputs(*pair)
    one = weights(tmp_path / "one")
    # Float32 sums in another order.
    assert difference(one, weights(tmp_path / "clones")) < 2e-3
    assert difference(one, weights(tmp_path / "workers")) < 2e-3

    assert "worker 0 of 2" in chief
    assert checkpoints.read(f"{tmp_path}/workers").get("run_state/examples") == 4 * 24
    # The second worker writes nothing.
    assert chief.count("Saved ") == 1 and chief.count("eval/Accuracy[") == 2
    assert "Saved " not in other and "eval/Accuracy[" not in other
    assert len(glob.glob(f"{tmp_path}/workers/events*")) == 1

    assert checkpoints.read(f"{tmp_path}/workers/best").get("global_step") in (2, 4)
    # Each worker evaluates its part; the numbers are those of all.
    losses = [float(re.findall(r"eval/loss\[([\d.]+)\]", out)[-1]) for out in (alone, chief)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def killed_after_two_saves(scripts, number):
    """Kills a worker when the chief has saved two checkpoints; the name of the last."""
    saved = []
    for line in scripts[0].stdout:
        saved += re.findall(r"^Saved .*/(model.ckpt-\d+)", line)
        if len(saved) >= 2 and line.startswith("step "):
            break
    scripts[number].send_signal(signal.SIGKILL)
    return saved[-1]


def end_of(left, gone, checkpoint):
    """The last checkpoint, after the worker that is left has said in a line who is gone."""
    out, errors = left.communicate(timeout=60)
    # The chief may have saved once more before it noticed.
    checkpoint = [checkpoint, *re.findall(r"Saved .*/(model.ckpt-\d+)", out)][-1]
    assert left.returncode == 75, errors
    (line,) = errors.strip().splitlines()
    assert f"error: worker {gone} is gone" in line
    assert f"the run carries on from {checkpoint}." in line
    return checkpoint


def test_a_worker_is_killed_the_others_end_and_the_run_goes_on_with_any_number(colours, tmp_path):
    """One run: worker 1 is killed, then the chief; one worker goes on alone, and two again."""
    folder = tmp_path / "run"
    flags = (*SMALLEST, "--batch_size=4", "--log_every_n_steps=1", "--save_interval_secs=1")
    flags += ("--keep_checkpoints=0", "--gradient_reduction=bfloat16")
    endless = (*flags, "--sync_replicas", "--replicas_to_aggregate=4")
    endless += ("--max_number_of_steps=100000",)
    (chief, other), hosts = workers(colours, folder, *endless)
    checkpoint = killed_after_two_saves([chief, other], 1)
    # It comes back at once, and waits until the chief does.
    cluster = f"--worker_hosts={','.join(hosts)}"
    other = begin(colours, folder, *endless, cluster, "--task=1")
    checkpoint = end_of(chief, f"1 ({hosts[1]})", checkpoint)
    chief = begin(colours, folder, *endless, cluster, "--task=0")
    resumed = next(line for line in chief.stdout if line.startswith("Resuming"))
    assert resumed.endswith(f"/{checkpoint}.\n")
    checkpoint = killed_after_two_saves([chief, other], 0)
    checkpoint = end_of(other, f"0 ({hosts[0]})", checkpoint)

    reader = checkpoints.read(f"{folder}/{checkpoint}")
    step, examples = int(reader.get("global_step")), reader.get("run_state/examples")
    assert examples == step * 4 * 4
    (out,) = outputs(begin(colours, folder, *flags, f"--max_number_of_steps={step + 2}"))
    assert f"/{checkpoint}.\n" in out
    told = "workers 2 → 1. The data goes on after the examples seen so far, but an update is from "
    assert f"{told}4 images, not 16: --batch_size=16 keeps 16, or a --learning_rate 0.25 " in out
    assert checkpoints.read(str(folder)).get("run_state/examples") == examples + 2 * 4
    # A signal to one of two stops both; what started them is to know that they are not done.
    pair, _ = workers(colours, folder, *flags, "--max_number_of_steps=100000")
    before = []
    for line in pair[0].stdout:
        before.append(line)
        if line.startswith("step "):
            break
    pair[1].send_signal(signal.SIGTERM)
    ends = [one.communicate(timeout=100) for one in pair]
    out = "".join(before)
    assert "workers 1 → 2" in out and "an update is from 8 images, not 4" in out
    for one, (_, errors) in zip(pair, ends, strict=True):
        assert one.returncode == 75 and "a signal has stopped all workers" in errors
    reader = checkpoints.read(str(folder))
    more = int(reader.get("global_step")) - (step + 2)
    assert reader.get("run_state/examples") == examples + 2 * 4 + more * 8 and more > 0


def test_a_worker_that_never_comes_is_told(colours, tmp_path):
    hosts = ",".join(f"127.0.0.1:{port}" for port in free_ports(2))
    flags = (*SMALLEST, f"--worker_hosts={hosts}", "--worker_wait_secs=1")
    alone = begin(colours, tmp_path / "run", *flags)
    out, errors = alone.communicate(timeout=100)
    assert alone.returncode == 75 and "Waiting for worker 1 (127.0.0.1:" in out
    assert "--worker_wait_secs=1: worker 1 (127.0.0.1:" in errors
    assert len(errors.splitlines()) == 1 and not (tmp_path / "run").exists()


def test_replicas_to_aggregate_are_those_of_all_workers(colours, tmp_path):
    flags = (*SMALLEST, "--sync_replicas", "--replicas_to_aggregate=3")
    hosts = "--worker_hosts=127.0.0.1:1,127.0.0.1:2"
    odd = begin(colours, tmp_path / "run", *flags, hosts)
    assert "evenly by 2 workers" in odd.communicate(timeout=100)[1] and odd.returncode == 2
