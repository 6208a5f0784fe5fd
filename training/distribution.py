"""Which tf.distribute strategy a run uses, from what its user asked for."""

import contextlib
import dataclasses
import functools
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from foundation import machine
from foundation.errors import AgainError, InputError, UsageError
from training.peers import Peers

# Batches that wait on the GPU: one is copied while another is learned from, and one is spare.
_BATCHES_AHEAD = 3
# After a worker is gone the others still answer so long, so that each of them sees who it was.
_FAREWELL_SECS = 3.0
_WRITTEN = 'write {"cluster": {"worker": ["HOST:PORT", …]}, "task": {"type": "worker", "index": 0}}'
# What TensorFlow says of another worker that it names: it hangs, is a new one, or broke off.
_BLAMING = ("heartbeat", "incarnation", "error information from remote target")
_TASK = re.compile(r"/job:(chief|worker)(?:/replica:\d+)?/task:(\d+)")


@dataclasses.dataclass(frozen=True)
class Distribution:
    """A strategy and this process's place in it.

    `is_chief` is True for the one process that writes files; `worker` counts from 0. `peers` are
    the workers, where there are several.
    """

    strategy: tf.distribute.Strategy
    description: str
    worker: int = 0
    num_workers: int = 1
    peers: Peers | None = None

    @property
    def is_chief(self) -> bool:
        return self.worker == 0

    @contextlib.contextmanager
    def together(
        self, remedy: Callable[[], str], end: Callable[[AgainError], None]
    ) -> Iterator[None]:
        """While the block runs, all workers are there, or the error says who is gone.

        Args:
          remedy: what to do then, in words.
          end: gets the error where nobody would raise it, since this worker waits for another one,
            or is busy with its own; it is to end the process.

        Raises:
          AgainError: another worker is gone.
        """
        if self.peers is None:
            yield
            return

        def lost(gone: Sequence[int]) -> AgainError:
            many = "are" if len(gone) > 1 else "is"
            whose = "their" if len(gone) > 1 else "its"
            return AgainError(
                f"{self.peers.named(gone)} {many} gone; {whose} own output may say why.",
                remedy=remedy(),
            )

        try:
            with self.peers.watched(lambda gone: end(lost(gone))):
                yield
            # Nobody leaves, which others would miss, until nobody watches any more.
            self.agree(True)
            # Nor until all know that. Who knows it may leave while another still fetches its part
            # of this answer, which is then no loss: all have come to the end.
            with contextlib.suppress(tf.errors.OpError):
                self.agree(True)
        except tf.errors.OpError as error:
            gone = self.peers.gone() or self._accused(error)
            if not gone:
                raise
            time.sleep(_FAREWELL_SECS)
            raise lost(gone) from error

    def _accused(self, error: tf.errors.OpError) -> list[int]:
        """The other worker that TensorFlow blames for an error.

        It hangs; or it was gone, and somebody has started it again before it could be missed.
        """
        blames = any(word in error.message for word in _BLAMING)
        found = _TASK.search(error.message) if blames else None
        if not found:
            return []
        number = _number(_cluster(), found[1], int(found[2]))
        return [number] if number != self.worker else []

    def agree(self, wish: bool) -> bool:
        """True when any worker wishes it; every worker must ask at the same step."""
        return self.mean(float(wish)) > 0

    def mean(self, value: float) -> float:
        """The mean of all workers' numbers; every worker must ask at the same step."""
        if self.num_workers == 1:
            return value
        total = self._sum_up(tf.constant(value, tf.float64))
        return float(self.strategy.experimental_local_results(total)[0]) / self.num_workers

    def weighted_means(self, values: Mapping[str, float], weight: float) -> dict[str, float]:
        """The means of all workers' numbers by name, each worker's with its weight.

        Every worker must ask at the same step, with the same names in the same order.
        """
        if self.num_workers == 1:
            return dict(values)
        together = self.mean(weight)
        return {name: self.mean(value * weight) / together for name, value in values.items()}

    @property
    def reduces_bfloat16(self) -> bool:
        """Whether bfloat16 can be summed up over the replicas: among GPUs of one machine not."""
        several = self.strategy.num_replicas_in_sync > 1
        gpus = tf.config.get_visible_devices("GPU")
        return not (several and gpus and self.num_workers == 1)

    def iterate(self, read: Callable[[], tf.data.Dataset]) -> Iterator:
        """The batches of `read()`, where the steps that take them want them.

        Several replicas get them from the strategy; a GPU has them copied while it still computes.
        """
        if self.strategy.num_replicas_in_sync > 1:
            return iter(self.strategy.distribute_datasets_from_function(lambda context: read()))
        batches = read()
        if tf.config.get_visible_devices("GPU"):
            fetch = tf.data.experimental.prefetch_to_device("/GPU:0", _BATCHES_AHEAD)
            batches = for_gpu(batches).apply(fetch)
        return iter(batches)

    @functools.cached_property
    def _sum_up(self):
        """Float64 scalar → its sum over all workers; a graph that is made once."""

        def sum_up(vote):
            context = tf.distribute.get_replica_context()
            # An argument of a graph is on no device yet, and is reduced where it is.
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(vote))

        return tf.function(lambda vote: self.strategy.run(sum_up, args=(vote,)), autograph=False)


def create(
    num_clones: int = 1,
    clone_on_cpu: bool = False,
    worker_hosts: tuple[str, ...] = (),
    task: int = 0,
    worker_wait_secs: float = 600,
    say: Callable[[str], None] = print,
    options: Mapping[str, str] | None = None,
) -> Distribution:
    """Picks the strategy; call it before TensorFlow touches any device.

    Of several workers, each waits here for all others.

    Args:
      num_clones: replicas of the net on this machine, one a GPU (or, with `clone_on_cpu`, one a
        logical CPU device). Each gets a whole batch, as in TF-Slim.
      clone_on_cpu: leave GPUs alone.
      worker_hosts: "host:port" of every worker, the chief first; empty: TF_CONFIG decides.
      task: index of this worker in `worker_hosts`.
      worker_wait_secs: how long to wait for the other workers.
      say: gets lines for the screen.
      options: name → value of those that all workers must have alike.

    Raises:
      InputError: more clones than devices, a task that is not in `worker_hosts`, another worker
        does not come, or it has other options.
    """
    if worker_hosts:
        if not 0 <= task < len(worker_hosts):
            raise UsageError(
                f"--worker_hosts lists {len(worker_hosts)} hosts.",
                option="task",
                value=task,
                remedy=f"Write 0 to {len(worker_hosts) - 1}.",
            )
        cluster = {"cluster": {"worker": list(worker_hosts)}}
        os.environ["TF_CONFIG"] = json.dumps({**cluster, "task": {"type": "worker", "index": task}})
    gpus = [] if clone_on_cpu else tf.config.list_physical_devices("GPU")
    if clone_on_cpu:
        tf.config.set_visible_devices([], "GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if gpus and num_clones > len(gpus):
        raise InputError(
            f"this machine has {len(gpus)} GPU(s).",
            option="num_clones",
            value=num_clones,
            remedy="Lower it, or add --clone_on_cpu to put the clones on the processor.",
        )
    if sum(map(len, _cluster().values())) > 1:
        return _workers(gpus, num_clones, worker_wait_secs, say, options)
    if num_clones > 1:
        devices = [f"GPU:{i}" for i in range(num_clones)] if gpus else _logical_cpus(num_clones)
        # NCCL sums up from card to card; whatever else TensorFlow chose would go by the processor.
        sums = tf.distribute.NcclAllReduce() if gpus else None
        strategy = tf.distribute.MirroredStrategy(devices, cross_device_ops=sums)
        return Distribution(strategy, f"{num_clones} clones on {', '.join(devices)}")
    spare = f"; --num_clones={len(gpus)} would use all {len(gpus)} GPUs" if len(gpus) > 1 else ""
    return Distribution(tf.distribute.get_strategy(), ("one GPU" if gpus else "CPU") + spare)


def bfloat16_is_fast() -> bool:
    """Whether the devices in use multiply bfloat16 matrices natively.

    GPUs do from compute capability 8.0 on; processors with AVX512_BF16 or AMX.
    """
    gpus = tf.config.get_visible_devices("GPU")
    if gpus:
        details = (tf.config.experimental.get_device_details(gpu) for gpu in gpus)
        return all(one.get("compute_capability", (0, 0)) >= (8, 0) for one in details)
    return machine.multiplies_bfloat16()


def for_gpu(batches: tf.data.Dataset) -> tf.data.Dataset:
    """The same batches as a GPU gets them soonest.

    They lie in pinned memory, from which the card copies by itself while the processor launches
    kernels: of all that tf.data offers, only a map that is fused with a batch allocates it. And
    they are of types that TensorFlow keeps on a card: int32 it leaves with the processor.
    """

    @tf.autograph.experimental.do_not_convert
    def on_card(batch):
        return tf.nest.map_structure(
            lambda part: tf.cast(part, tf.int64) if part.dtype == tf.int32 else part, batch
        )

    @tf.autograph.experimental.do_not_convert
    def taken_out(batch):
        return tf.nest.map_structure(lambda part: tf.squeeze(part, 0), batch)

    options = tf.data.Options()
    options.experimental_optimization.map_and_batch_fusion = True
    packed = batches.map(on_card).batch(1, drop_remainder=True)
    return packed.map(taken_out).with_options(options)


def _logical_cpus(count: int) -> list[str]:
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
    tf.config.set_logical_device_configuration(cpu, parts)
    return [f"CPU:{i}" for i in range(count)]


def _cluster() -> dict[str, list[str]]:
    """The addresses of TF_CONFIG by job, the chief's first; empty where there are none."""
    cluster = _tf_config().get("cluster", {})
    if not isinstance(cluster, dict) or not all(isinstance(x, list) for x in cluster.values()):
        raise _broken_tf_config(f"has no lists of workers: {_WRITTEN}")
    return {job: cluster[job] for job in sorted(cluster)}


def _tf_config() -> Mapping[str, Any]:
    try:
        found = json.loads(os.environ.get("TF_CONFIG") or "{}")
    except json.JSONDecodeError as error:
        raise _broken_tf_config(f"is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise _broken_tf_config("is not an object of JSON")
    return found


def _broken_tf_config(problem: str) -> InputError:
    return InputError(f"The environment variable TF_CONFIG {problem}.")


def _number(cluster: Mapping[str, Sequence[str]], job: str, index: int) -> int:
    """The number of a worker over all jobs; the chief is 0."""
    return index + (len(cluster.get("chief", ())) if job != "chief" else 0)


def _workers(
    gpus: list,
    num_clones: int,
    wait_secs: float,
    say: Callable[[str], None],
    options: Mapping[str, str] | None,
) -> Distribution:
    if gpus:
        tf.config.set_visible_devices(gpus[:num_clones], "GPU")
    elif num_clones > 1:
        raise InputError(
            "several workers need GPUs for it.",
            option="num_clones",
            value=num_clones,
            remedy="Leave it out: each worker is then one clone.",
        )
    peers = _peers()
    peers.gather(say, wait_secs, options)
    implementation = tf.distribute.experimental.CommunicationImplementation
    communication = tf.distribute.experimental.CommunicationOptions(
        implementation=implementation.NCCL if gpus else implementation.AUTO
    )
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=communication)
    count = len(peers.addresses)
    description = f"worker {peers.own} of {count}"
    return Distribution(strategy, description, worker=peers.own, num_workers=count, peers=peers)


def _peers() -> Peers:
    """The workers that TF_CONFIG lists, and which of them this process is."""
    cluster, task = _cluster(), _tf_config().get("task", {})
    if not isinstance(task, dict):
        raise _broken_tf_config(f"has a task without type and index: {_WRITTEN}")
    others = sorted(set(cluster) - {"chief", "worker"})
    if others:
        raise _broken_tf_config(f"has {', '.join(others)}: write only chief and worker")
    addresses = [str(address) for hosts in cluster.values() for address in hosts]
    for address in addresses:
        if not re.fullmatch(r".+:\d+", address):
            raise _broken_tf_config(f"has {address}: write HOST:PORT")
    job, index = task.get("type"), str(task.get("index"))
    if job not in cluster or not index.isdigit() or int(index) >= len(cluster[job]):
        raise _broken_tf_config(f"says that this is {job} {index}, which its cluster lacks")
    return Peers(addresses, _number(cluster, job, int(index)))
