"""Images per second of whole training steps on a GPU; prints each line as soon as it is known.

python -m benchmarks.gpu resnet_v1_50:256:224 inception_v3:128:299:bfloat16
python -m benchmarks.gpu --steps=3 nasnet_mobile:32:224:float32
python -m benchmarks.gpu --recompute inception_v3:512:299

Each argument is NET:BATCH:PIXELS[:PRECISION]; 0 pixels are the net's own. Images are bytes in the
processor's memory, which cross the bus and are scaled in the step, as in a training whose processor
keeps up. The first step is the time of tracing and compiling; `--compile_cache_dir` is the
script's. Beside it, alone on the card: benchmarks/peers/torch_step.py --device=cuda.
"""

import argparse
import functools
import json
import os
import time

from training import compile_cache

_NUM_CLASSES = 1001


def prepared(spec: str, optimizer_name: str, recompute: bool = False):
    """The training step of one net, batches for it, and how many images they hold."""
    import keras
    import numpy as np
    import tensorflow as tf

    from nets import nets_factory, precision, slim_names
    from training import distribution, losses, optimizers
    from training.options import OptimizerOptions
    from training.step import NetInTraining, StepSettings, TrainingStep

    name, batch_size, size, *rest = spec.split(":")
    batch_size, size = int(batch_size), int(size) or nets_factory.get(name).image_size
    devices = distribution.create()
    keras.utils.set_random_seed(0)
    dtype = precision.choose(rest[0] if rest else "bfloat16")
    model = nets_factory.build(name, _NUM_CLASSES, size, dtype=dtype)
    trained = {n: v for n, v in slim_names.variables(model).items() if v.trainable}
    optimizer = optimizers.create(OptimizerOptions(optimizer=optimizer_name))
    decay = dict.fromkeys(slim_names.regularized(model), 4e-5)
    optimizer.build(list(trained.values()), list(trained), weight_decay=decay)
    loss_names = ["main", *(["auxiliary"] if "aux_logits" in model.output else [])]

    step = TrainingStep(
        devices,
        NetInTraining(model, {n: v.value for n, v in trained.items()}, loss_names),
        optimizer,
        lambda step: 1e-4,
        losses.classification,
        settings=StepSettings(jit_compile=True, recompute=recompute),
    )
    step.prepare_images(lambda images: tf.cast(images, tf.float32) * (2 / 255) - 1)
    shape = (batch_size, size, size, model.inputs[0].shape[-1])
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    labels = np.arange(batch_size, dtype=np.int32) % _NUM_CLASSES
    ds = tf.data.Dataset.from_tensors({"image": images, "label": labels}).repeat().prefetch(2)
    return step, devices.iterate(lambda: ds), batch_size


def measure(step, batches, batch_size: int, num_steps: int, calls: int) -> dict[str, object]:
    """Speeds in long calls, the median of some, and in calls of a single step."""
    import numpy as np
    import tensorflow as tf

    def seconds(*counts: int) -> float:
        began = time.perf_counter()
        for count in counts:
            results = step.run(batches, count)
        if not np.isfinite(results["loss"]):
            raise ValueError("the loss is not finite")
        return time.perf_counter() - began

    first, _ = seconds(1), seconds(2)
    long = sorted(seconds(num_steps) for _ in range(calls))
    speeds = [round(batch_size * num_steps / one, 1) for one in long]
    single = seconds(*[1] * num_steps)
    found = {"images_per_s": speeds[len(speeds) // 2], "of": speeds}
    found |= {"in_single_calls": round(batch_size * num_steps / single, 1)}
    if gpus := tf.config.list_physical_devices("GPU"):
        found["card"] = tf.config.experimental.get_device_details(gpus[0]).get("device_name")
        peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
        found["peak_gib"] = round(peak / 2**30, 1)
    return found | {"first_step_s": round(first, 1)}


def _profile(folder: str, function) -> None:
    import tensorflow as tf

    tf.profiler.experimental.start(folder)
    function()
    tf.profiler.experimental.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("specs", nargs="+", metavar="NET:BATCH:PIXELS[:PRECISION]")
    parser.add_argument("--optimizer", default="rmsprop")
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--steps", type=int, default=40, help="Steps of a call.")
    parser.add_argument("--calls", type=int, default=3)
    parser.add_argument("--compile_cache_dir", default="", help="Empty: compile anew.")
    parser.add_argument("--profile_dir", help="Takes a profile of three more steps.")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    compile_cache.use(args.compile_cache_dir)
    for spec in args.specs:
        try:
            step, batches, batch_size = prepared(spec, args.optimizer, args.recompute)
            found = measure(step, batches, batch_size, args.steps, args.calls)
        except Exception as error:  # the other nets are still of interest
            found = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        about = {"net": spec, "optimizer": args.optimizer, "recompute": args.recompute}
        print(json.dumps(about | found), flush=True)
        if args.profile_dir and "error" not in found:
            _profile(args.profile_dir, functools.partial(step.run, batches, 3))


if __name__ == "__main__":
    main()
