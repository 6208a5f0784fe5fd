import contextlib
import socket
import threading
import time

import pytest

from foundation.errors import AgainError, InputError
from tests.conftest import free_ports
from training import peers
from training.peers import Peers


@pytest.fixture
def addresses():
    return [f"127.0.0.1:{port}" for port in free_ports(3)]


def serve(address):
    host, _, port = address.rpartition(":")
    return socket.create_server((host, int(port)))


def come(addresses, number, lines=None, delay=0.0, wait_secs=30):
    """A thread in which a worker waits for the others, and when it was done."""
    done = []

    def wait():
        time.sleep(delay)
        with contextlib.suppress(AgainError):
            Peers(addresses, number).gather((lines if lines else []).append, wait_secs)
            done.append(time.monotonic())

    thread = threading.Thread(target=wait)
    thread.start()
    return thread, done


def test_workers_go_together_when_all_are_there(addresses):
    lines = [[f"of worker {n}"] for n in range(3)]
    # In any order: here the chief comes second.
    waiting = [come(addresses, n, lines[n], delay) for n, delay in enumerate((0.4, 0.0, 1.2))]
    for thread, _ in waiting:
        thread.join()
    ends = [end for _, (end,) in waiting]
    assert max(ends) - min(ends) < 1.0
    assert lines[0][1].startswith("Waiting for ")
    assert f"worker 2 ({addresses[2]})" in lines[0][1]
    assert lines[1][1] == f"Waiting for worker 0 ({addresses[0]}), 30 s at most …"


@pytest.mark.parametrize(
    "said",
    [b'{"worker": Infinity, "options": {}}\n', b"[" * 60_000 + b"\n", b'{"worker": 1}\n', b"GET"],
    ids=["infinite", "deep", "without options", "without an end"],
)
def test_what_a_stranger_says_is_passed_over(addresses, said):
    chief, done = come(addresses[:2], 0)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            stranger = socket.create_connection(("127.0.0.1", int(addresses[0].rpartition(":")[2])))
            break
    with stranger:
        stranger.sendall(said)
        worker, _ = come(addresses[:2], 1)
        worker.join()
        chief.join()
    assert done


def test_a_stranger_who_drips_is_not_waited_for():
    ours, theirs = socket.socketpair()
    ended = threading.Event()

    def drip():
        while not ended.wait(0.1):
            theirs.send(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    with pytest.raises(TimeoutError):
        peers._line(ours)
    ended.set()
    thread.join()
    ours.close()
    theirs.close()


def test_a_worker_that_hung_up_is_waited_for_again(addresses):
    chief, met = come(addresses, 0)  # waits for two
    first, _ = come(addresses, 1, wait_secs=1.0)
    first.join()
    second, _ = come(addresses, 2)
    time.sleep(1.0)
    assert not met
    again, _ = come(addresses, 1)
    for thread in (chief, second, again):
        thread.join()
    assert met


def test_a_worker_waits_while_the_chief_is_in_an_earlier_training(addresses):
    """TensorFlow's server there answers with its own words, or hangs up."""
    lines = ["of worker 1"]
    with serve(addresses[0]) as earlier:
        waiting, done = come(addresses[:2], 1, lines)
        connection, _ = earlier.accept()
        connection.recv(32)
        connection.sendall(b"\x00\x00\x18\x04")
        connection.close()
        time.sleep(0.5)
        assert not done and lines[1] == f"Waiting for worker 0 ({addresses[0]}), 30 s at most …"
    chief, _ = come(addresses[:2], 0)
    chief.join()
    waiting.join()
    assert done


def test_a_worker_that_does_not_come_is_named(addresses):
    for own, other in ((1, 0), (0, 1)):
        with pytest.raises(AgainError, match="--worker_wait_secs=0.2") as caught:
            Peers(addresses[:2], own).gather(lambda line: None, 0.2)
        assert f"worker {other} ({addresses[other]}) did not come within 0.2 s" in str(caught.value)


def test_other_options_are_told_to_all(addresses):
    told = []

    def wait(number, batch_size):
        with pytest.raises(InputError, match="the same command") as caught:
            options = {"batch_size": batch_size, "learning_rate": "0.1"}
            Peers(addresses, number).gather(lambda line: None, 30, options)
        told.append(str(caught.value))

    threads = [
        threading.Thread(target=wait, args=(number, size)) for number, size in enumerate("448")
    ]
    for thread in reversed(threads):
        thread.start()
        time.sleep(0.3)  # the worker that differs comes first
    for thread in threads:
        thread.join()
    assert len(told) == 3 and len({*told}) == 1
    chief, other = addresses[0], addresses[2]
    assert f"worker 0 ({chief}) was started with --batch_size=4, worker 2 ({other})" in told[0]


def test_a_port_that_is_taken_is_told(addresses):
    with serve(addresses[0]), pytest.raises(InputError, match="this worker can't have its port"):
        Peers(addresses, 0).gather(lambda line: None, 0.2)


def test_the_first_that_is_gone_for_good_is_told(addresses):
    lost = threading.Event()
    found = []

    def tell(gone):
        found.append(gone)
        lost.set()

    with serve(addresses[1]), Peers(addresses, 0).watched(tell, check_secs=0.05, patience=3):
        assert lost.wait(10)
    assert found == [[2]]


def test_nobody_is_told_of_who_stays_or_after_the_end(addresses):
    found = []
    with serve(addresses[1]), serve(addresses[2]):
        with Peers(addresses, 0).watched(found.append, check_secs=0.02, patience=2):
            time.sleep(0.3)
    time.sleep(0.2)
    assert not found
