import contextlib
import json

import pytest
import tensorflow as tf
from tensorflow.python.data.experimental.ops.testing import assert_next

from foundation.errors import AgainError, InputError, UsageError
from training import distribution


class Gone:
    """Peers of which one can't be reached."""

    def gone(self):
        return [1]

    def named(self, numbers):
        assert numbers == [1]
        return "worker 1 (b:1)"

    def watched(self, lost):
        return contextlib.nullcontext()


@pytest.mark.parametrize(("answers", "is_done"), [(1, True), (0, False)])
def test_who_leaves_a_finished_run_first_is_not_missed(monkeypatch, answers, is_done):
    """A worker has its answer, and may leave, before another has fetched its own from there."""
    left = iter(range(answers))

    def agree(self, wish):
        if next(left, None) is None:
            raise tf.errors.UnavailableError(None, None, "Socket closed")

    monkeypatch.setattr(distribution.Distribution, "agree", agree)
    monkeypatch.setattr(distribution, "_FAREWELL_SECS", 0.0)
    run = distribution.Distribution(None, "worker 0 of 2", num_workers=2, peers=Gone())
    ends = contextlib.nullcontext() if is_done else pytest.raises(AgainError, match="worker 1")
    with ends, run.together(lambda: "Again.", pytest.fail):
        pass


class Back(Gone):
    """Peers of which one was started again so soon that all can be reached."""

    def gone(self):
        return []


BROKEN_OFF = """Collective ops is aborted by: recvmsg:Connection reset by peer
Additional GRPC error information from remote target /job:worker/replica:0/task:1 while calling \
/tensorflow.WorkerService/RecvBuf:
:UNKNOWN:Error received from peer  {grpc_status:14, grpc_message:"Connection reset by peer"}"""


def test_who_broke_off_is_missed_though_it_is_back_at_once(monkeypatch):
    hosts = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(hosts))
    monkeypatch.setattr(distribution, "_FAREWELL_SECS", 0.0)
    run = distribution.Distribution(None, "worker 0 of 2", num_workers=2, peers=Back())
    with (
        pytest.raises(AgainError, match=r"worker 1 \(b:1\) is gone"),
        run.together(lambda: "Again.", pytest.fail),
    ):
        raise tf.errors.UnavailableError(None, None, BROKEN_OFF)
    # An error of this worker's own is no one else's.
    with (
        pytest.raises(tf.errors.ResourceExhaustedError),
        run.together(lambda: "Again.", pytest.fail),
    ):
        raise tf.errors.ResourceExhaustedError(None, None, "/job:worker/replica:0/task:1: memory")


def test_one_clone_needs_no_strategy():
    alone = distribution.create(clone_on_cpu=True)
    assert alone.strategy is tf.distribute.get_strategy()
    assert alone.is_chief
    assert alone.agree(True) and not alone.agree(False)


def test_a_task_without_a_host_is_refused():
    with pytest.raises(UsageError, match="--task=2: --worker_hosts lists 2 hosts"):
        distribution.create(worker_hosts=("a:1", "b:2"), task=2)


def test_a_broken_tf_config_is_named(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(InputError, match="TF_CONFIG is not JSON"):
        distribution.create()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[1]", "is not an object"),
        ({"cluster": ["a:1"]}, "has no lists of workers: write "),
        ({"cluster": {"worker": "a:1,b:1"}}, "has no lists of workers: write "),
        ({"cluster": {"worker": ["a:1", "b:1"]}, "task": 1}, "has a task without type and index"),
        ({"cluster": {"worker": ["a:1"], "ps": ["b:1"]}}, "has ps: write only chief and worker"),
        ({"cluster": {"worker": ["a:1", "b"]}}, "has b: write HOST:PORT"),
        ({"cluster": {"worker": ["a:1", "b:1"]}}, "says that this is None None"),
        (
            {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}},
            "says that this is worker 2, which its cluster lacks",
        ),
    ],
)
def test_a_tf_config_that_makes_no_sense_is_told(monkeypatch, content, problem):
    text = content if isinstance(content, str) else json.dumps(content)
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match=problem):
        distribution.create()


def test_the_chief_of_a_tf_config_is_the_first_worker(monkeypatch):
    cluster = {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
    config = {"cluster": cluster, "task": {"type": "worker", "index": "1"}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    peers = distribution._peers()
    assert (peers.addresses, peers.own) == (("a:1", "b:1", "c:1"), 2)


def test_a_tf_config_of_one_worker_is_no_cluster(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["a:1"]}}))
    assert distribution.create().num_workers == 1


@pytest.mark.parametrize(
    ("flags", "fast"),
    [("fma avx512_bf16", True), ("amx_bf16 fma", True), ("fma avx2", False)],
)
def test_bfloat16_is_fast_where_the_processor_has_it(monkeypatch, tmp_path, flags, fast):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags : {flags}\n")
    real_open = open
    monkeypatch.setattr(
        "builtins.open",
        lambda path, *a, **k: real_open(cpuinfo if path == "/proc/cpuinfo" else path, *a, **k),
    )
    assert distribution.bfloat16_is_fast() is fast


def test_batches_come_as_they_are_where_there_is_one_processor():
    ds = tf.data.Dataset.from_tensors({"image": [1.0], "label": [3]}).repeat()
    batch = next(distribution.create(clone_on_cpu=True).iterate(lambda: ds))
    assert batch["label"].dtype == tf.int32 and float(batch["image"][0]) == 1.0


def batches_of_two() -> tf.data.Dataset:
    batch = {"image": {"pixels": tf.zeros([2, 3], tf.uint8)}, "label": tf.constant([7, 8])}
    return tf.data.Dataset.from_tensors(batch).repeat(3)


def test_labels_are_of_a_type_that_a_gpu_keeps():
    ds = distribution.for_gpu(batches_of_two())
    assert [batch["label"].numpy().tolist() for batch in ds] == [[7, 8]] * 3
    assert ds.element_spec == {
        "image": {"pixels": tf.TensorSpec([2, 3], tf.uint8)},
        "label": tf.TensorSpec([2], tf.int64),
    }


@pytest.mark.parametrize("is_it", [True, False])
def test_batches_for_a_gpu_come_from_the_only_transformation_that_pins_memory(is_it):
    ds = batches_of_two().apply(assert_next(["MapAndBatch"]))
    if is_it:
        list(distribution.for_gpu(ds))
        return
    with pytest.raises(tf.errors.InvalidArgumentError, match="MapAndBatch"):
        list(ds.map(lambda batch: batch).batch(1))
