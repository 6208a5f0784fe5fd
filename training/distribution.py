"""Which tf.distribute strategy a run uses, from what its user asked for."""

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterator

import tensorflow as tf

from foundation import machine
from foundation.errors import InputError, UsageError

# Batches that wait on the GPU: one is copied while another is learned from, and one is spare.
_BATCHES_AHEAD = 3


@dataclasses.dataclass(frozen=True)
class Distribution:
    """A strategy and this process's place in it.

    `is_chief` is True for the one process that writes files; `worker` counts from 0.
    """

    strategy: tf.distribute.Strategy
    description: str
    worker: int = 0
    num_workers: int = 1

    @property
    def is_chief(self) -> bool:
        return self.worker == 0

    def agree(self, wish: bool) -> bool:
        """True when any worker wishes it; every worker must ask at the same step."""
        return self.mean(float(wish)) > 0

    def mean(self, value: float) -> float:
        """The mean of all workers' numbers; every worker must ask at the same step."""
        if self.num_workers == 1:
            return value
        total = self._sum_up(tf.constant(value, tf.float32))
        return float(self.strategy.experimental_local_results(total)[0]) / self.num_workers

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
        """Float32 scalar → its sum over all workers; a graph that is made once."""

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
) -> Distribution:
    """Picks the strategy; call it before TensorFlow touches any device.

    Args:
      num_clones: replicas of the net on this machine, one a GPU (or, with `clone_on_cpu`, one a
        logical CPU device). Each gets a whole batch, as in TF-Slim.
      clone_on_cpu: leave GPUs alone.
      worker_hosts: "host:port" of every worker, the chief first; empty: TF_CONFIG decides.
      task: index of this worker in `worker_hosts`.

    Raises:
      InputError: more clones than devices, or a task that is not in `worker_hosts`.
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
    if _several_workers():
        return _workers(gpus, num_clones)
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


def _several_workers() -> bool:
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
    except json.JSONDecodeError as error:
        raise InputError(f"The environment variable TF_CONFIG is not JSON: {error}.") from error
    return sum(len(hosts) for hosts in cluster.values()) > 1


def _workers(gpus: list, num_clones: int) -> Distribution:
    if gpus:
        tf.config.set_visible_devices(gpus[:num_clones], "GPU")
    elif num_clones > 1:
        raise InputError(
            "several workers need GPUs for it.",
            option="num_clones",
            value=num_clones,
            remedy="Leave it out: each worker is then one clone.",
        )
    implementation = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=implementation.NCCL if gpus else implementation.AUTO
    )
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    resolver = strategy.cluster_resolver
    workers = resolver.cluster_spec().as_dict()
    num_workers = sum(len(hosts) for hosts in workers.values())
    worker = resolver.task_id + (
        len(workers.get("chief", ())) if resolver.task_type != "chief" else 0
    )
    return Distribution(
        strategy, f"worker {worker} of {num_workers}", worker=worker, num_workers=num_workers
    )
