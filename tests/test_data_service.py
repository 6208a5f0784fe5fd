"""Batches from a tf.data service on this machine."""

import contextlib
import functools
import http.server
import queue
import signal
import socket
import threading

import numpy as np
import pytest
import tensorflow as tf

from datasets import batches, data_services, tfrecord_dataset
from foundation import reachable
from preprocessing import preprocessing_factory
from tests.forked import Script, run_script


@contextlib.contextmanager
def running(port="0"):
    """The address of a running data_service.py."""
    process = Script("data_service.py", f"--port={port}")
    line = process.stdout.readline()
    assert "Ready: train with --data_service=" in line, process.stderr.read()
    yield line.split("--data_service=")[1].split(". ")[0]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0 and "The service has ended." in out, err


@pytest.fixture(scope="module")
def service():
    with running() as address:
        yield address


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (["--port=TAKEN"], 1, "it can't be had (Address already in use)"),
        (
            ["--host=no.such.host.invalid"],
            1,
            "--host=no.such.host.invalid: the service can't start",
        ),
        (["--port=5050", "--worker_port=5050"], 2, "--worker_port=5050: that is --port's"),
        (["--host=0.0.0.0"], 2, "--host=0.0.0.0: that is nobody's address"),
    ],
    ids=["taken", "elsewhere", "twice", "everywhere"],
)
def test_a_service_that_nobody_could_reach_does_not_start(flags, code, told, service):
    taken = service.rpartition(":")[2]
    flags = ["--port=0", *(flag.replace("TAKEN", taken) for flag in flags)]
    done = run_script("data_service.py", *flags, timeout=60)
    assert done.returncode == code and told in done.stderr and "Traceback" not in done.stderr


def training(folder, **options):
    """Batches of a training, mixed."""
    recipe = preprocessing_factory.get("cifarnet")
    decode, to_input = recipe.training_stages(16)
    preparation = batches.Preparation(
        decode,
        to_input,
        lambda images, labels, seed: (images + tf.cast(seed[0] % 97, tf.float32), labels),
        seed=3,
    )
    dataset = tfrecord_dataset.find(str(folder))
    return batches.training_batches(dataset, preparation, 8, consumed=16, **options)


def drawn(folder, count=6, **options):
    """The same as arrays."""
    return list(training(folder, **options).take(count).as_numpy_iterator())


def test_its_batches_are_ours_in_their_order(colours, service):
    for one, other in zip(drawn(colours), drawn(colours, services=[service]), strict=True):
        np.testing.assert_array_equal(one["label"], other["label"])
        np.testing.assert_allclose(one["image"], other["image"], atol=1e-5)


def test_several_services_take_turns_and_no_batch_comes_twice(colours, service):
    with running() as second:
        served = drawn(colours, 60, services=[service, second])
    for one, other in zip(drawn(colours, 60), served, strict=True):
        np.testing.assert_array_equal(one["label"], other["label"])
        np.testing.assert_allclose(one["image"], other["image"], atol=1e-5)


def test_a_service_that_is_gone_is_noticed(service):
    data_services.check([service])
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ValueError, match=f"^--data_service={free}: no tf.data service answers"):
        data_services.check([service, free])
    lost = queue.Queue()
    with reachable.watched([service, free], lost.put, check_secs=0.05, patience=3):
        assert lost.get(timeout=10) == [free] and lost.empty()


def test_another_service_or_a_worker_out_of_reach_is_told():
    with http.server.HTTPServer(("localhost", 0), http.server.BaseHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with pytest.raises(ValueError, match="nothing came in 2 s: it is another service"):
            data_services.check([f"localhost:{other.server_port}"], 2)
        other.shutdown()
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer(service.DispatcherConfig(port=0))
    address = f"localhost:{dispatcher.target.rpartition(':')[2]}"
    astray = service.WorkerConfig(dispatcher_address=address, worker_address="localhost:1")
    worker = service.WorkerServer(astray)
    with pytest.raises(ValueError, match="or its --host is not the address of its machine"):
        data_services.check([address], 2)
    del worker


def test_a_service_that_was_started_anew_is_told(colours):
    with running() as address:
        iterator = iter(training(colours, services=[address]))
        next(iterator)
    with running(address.rpartition(":")[2]):
        dataset = tfrecord_dataset.find(str(colours))
        with pytest.raises(ValueError, match="started anew.*carries on from the last checkpoint"):
            batches.explained(dataset, lambda: [next(iterator) for _ in range(100)])


def check_often():
    reachable.watched = functools.partial(reachable.watched, check_secs=0.2)


def test_a_training_ends_when_one_of_its_two_services_is_killed(colours, service, tmp_path):
    second = Script("data_service.py", "--port=0")
    address = second.stdout.readline().split("--data_service=")[1].split(". ")[0]
    flags = (f"--dataset_dir={colours}", f"--train_dir={tmp_path}/run", *SMALLEST)
    flags += ("--log_every_n_steps=1", "--save_interval_secs=1")
    training = Script(
        "train_image_classifier.py",
        *(*flags, f"--data_service={service},{address}"),
        first=check_often,
    )
    for line in training.stdout:
        if line.startswith("Saved "):
            break
    second.kill()
    out, errors = training.communicate(timeout=60)
    assert training.returncode == 75, errors
    saved = [line for line in (line, *out.splitlines()) if line.startswith("Saved ")][-1]
    last = saved.strip().rpartition("/")[2]
    assert errors.splitlines()[-1] == (
        f"train_image_classifier.py: error: --data_service={address}: it does not answer any "
        f"more. Start it again, then this command: it carries on from {last}"
    )


SMALLEST = ("--model_name=small_cnn", "--small_cnn_filters=4", "--train_image_size=16")


def test_training_by_the_command_line(colours, service, tmp_path):
    flags = (f"--dataset_dir={colours}", f"--train_dir={tmp_path}/run", *SMALLEST)
    flags += ("--max_number_of_steps=3",)
    result = run_script("train_image_classifier.py", *flags, f"--data_service={service}")
    assert result.returncode == 0, result.stderr
    wrong = run_script("train_image_classifier.py", *flags, "--data_service=here")
    assert wrong.returncode == 2 and "write HOST:PORT" in wrong.stderr
    silent = run_script("train_image_classifier.py", *flags, "--data_service=localhost:1")
    assert silent.returncode == 1 and "no tf.data service answers" in silent.stderr
    cached = run_script(
        "train_image_classifier.py", *flags, f"--data_service={service}", "--cache=memory"
    )
    assert cached.returncode == 2 and "leave one of them out" in cached.stderr
