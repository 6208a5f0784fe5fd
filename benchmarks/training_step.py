"""Images per second of a whole training step on images that are already in memory.

python -m benchmarks.training_step --model_name=inception_v3 --batch_size=8 --image_size=250

Each side is a process of its own; the sides take turns and the medians are compared, since
machines are noisy. With --peer_python, the Python of an environment that has TF-Slim
(`pip install tensorflow-cpu==2.12.1 tf-slim==1.1.0`, Python 3.11), its own net is one of them.
With --trainable_scopes the other layers are frozen; then learning from cached features is one of
the sides too. With --torch_python, the Python of an environment that has PyTorch
(`pip install torch==2.13.0`), so is PyTorch's vgg_16. With --keras, so is Keras' own fit.
"""

import json
import os
import statistics
import subprocess
import sys
import time

import command_line
from foundation import machine
from foundation.options import Options, option, options
from training import threads


@options
class StepBenchmark(Options):
    """What is timed."""

    model_name: str = option("inception_v3", "Net.")
    batch_size: int = option(8, "Images a step.", bounds=(1, None))
    image_size: int = option(250, "Side of the images.", bounds=(1, None))
    num_classes: int = option(1001, "Outputs.", bounds=(1, None))
    steps: int = option(10, "Steps that are timed in a turn.", bounds=(1, None))
    turns: int = option(3, "Turns of each side.", bounds=(1, None))
    precisions: tuple[str, ...] = option(("float32", "bfloat16"), "Of our side.")
    trainable_scopes: tuple[str, ...] = option((), "What is trained; unset: all.")
    peer_python: str | None = option(None, "Python of an environment with TF-Slim.")
    torch_python: str | None = option(None, "Python of an environment with PyTorch, for vgg_16.")
    keras: bool = option(False, "Compare with Keras' own fit too.")
    measure: str | None = option(None, "Internal: time this precision here and print the result.")


_CACHED = "float32, cached"
_CACHED_STEPS = 20  # for each of the others, since they are so much shorter


def measure(side: str, given: StepBenchmark) -> float:
    """Images per second of our step, after a warm-up call."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    machine.keep_freed_memory()
    threads.suit(given.model_name, given.image_size, given.batch_size)
    import numpy as np
    import tensorflow as tf

    from nets import nets_factory, slim_names
    from training import batch_norm, distribution, feature_cache, losses, optimizers
    from training.options import OptimizerOptions
    from training.step import NetInTraining, TrainingStep

    devices = distribution.create()
    dtype = "mixed_bfloat16" if side == "bfloat16" else "float32"
    model = nets_factory.build(given.model_name, given.num_classes, given.image_size, dtype=dtype)
    trained = {n: v for n, v in slim_names.variables(model).items() if v.trainable}
    if given.trainable_scopes:
        caught = slim_names.caught_by_match(given.trainable_scopes, trained)
        chosen = {name for names in caught.values() for name in names}
        trained = {name: variable for name, variable in trained.items() if name in chosen}
        batch_norm.freeze(model, chosen)
    optimizer = optimizers.create(OptimizerOptions())
    decay = dict.fromkeys(slim_names.regularized(model), 4e-5)
    optimizer.build(list(trained.values()), list(trained), weight_decay=decay)

    loss_names = ["main", *(["auxiliary"] if "aux_logits" in model.output else [])]
    shape = (given.batch_size, given.image_size, given.image_size, 3)
    labels = np.arange(given.batch_size, dtype=np.int32) % given.num_classes
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    learner, steps = model, given.steps
    if side == _CACHED:
        parts = feature_cache.split(model, trained)
        found = tuple(part.numpy() for part in tf.nest.flatten(parts.frozen(images)))
        ds = feature_cache.Features(found, labels).batches(given.batch_size, seed=0)
        learner, steps = parts.head, _CACHED_STEPS * steps
    else:
        ds = tf.data.Dataset.from_tensors({"image": images, "label": labels}).repeat()
    weights = {name: variable.value for name, variable in trained.items()}
    step = TrainingStep(
        devices,
        NetInTraining(learner, weights, loss_names),
        optimizer,
        lambda step: 1e-4,
        losses.classification,
    )
    iterator = iter(ds)
    step.run(iterator, 3)
    began = time.perf_counter()
    step.run(iterator, steps)
    return given.batch_size * steps / (time.perf_counter() - began)


def _side(command: list[str]) -> float:
    """Runs one side in a process of its own and takes the number it prints last."""
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")
    return float(json.loads(result.stdout.strip().splitlines()[-1]))


def main(given: StepBenchmark) -> None:
    if given.measure:
        print(json.dumps(measure(given.measure, given)))
        return
    sizes = [
        f"--{name}={getattr(given, name)}"
        for name in ("batch_size", "image_size", "num_classes", "steps")
    ]
    shared = [*sizes, f"--model_name={given.model_name}"]
    shared.append(f"--trainable_scopes={','.join(given.trainable_scopes)}")
    ours = [sys.executable, "-m", "benchmarks.training_step", *shared]
    names = [*given.precisions, *([_CACHED] if given.trainable_scopes else [])]
    sides = {name: [*ours, f"--measure={name}"] for name in names}
    peers = os.path.join(os.path.dirname(__file__), "peers")
    if given.torch_python:
        if given.model_name != "vgg_16" or given.trainable_scopes:
            raise SystemExit("--torch_python: PyTorch's side is the whole vgg_16 only.")
        peer = [given.torch_python, os.path.join(peers, "torch_step.py"), *sizes]
        for precision in given.precisions:
            sides[f"PyTorch, {precision}"] = [*peer, f"--precision={precision}"]
    if given.keras:
        peer = [sys.executable, os.path.join(peers, "keras_script.py"), "--step_only"]
        sides["Keras, float32"] = [*peer, *sizes, f"--model_name={given.model_name}"]
    if given.peer_python:
        peer = os.path.join(peers, "tf_slim_step.py")
        sides["TF-Slim, float32"] = [given.peer_python, peer, *shared]
    speeds = {name: [] for name in sides}
    for _ in range(given.turns):
        for name, command in sides.items():
            speeds[name].append(_side(command))
    last = statistics.median(speeds[list(sides)[-1]])
    print(f"{given.model_name}, batch {given.batch_size}, {given.image_size} pixels, training step")
    for name, found in speeds.items():
        median = statistics.median(found)
        print(
            f"  {name:18} {median:7.2f} images/s ({min(found):.2f} to {max(found):.2f}), "
            f"{median / last:.2f} x {list(sides)[-1]}"
        )


if __name__ == "__main__":
    command_line.run(main, StepBenchmark)
