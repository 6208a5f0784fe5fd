"""Seconds from the start of a process to a trained net, beside a plain Keras script's.

python -m benchmarks.whole_training --dataset_dir=demo_output/animals --steps=1500

DATASET has the splits train and validation, as `make demo` converts them. Both sides train on the
same pictures and evaluate once at the end; they take turns.
"""

import argparse
import io
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from PIL import Image

_PEER = pathlib.Path(__file__).parent / "peers" / "keras_script.py"


def write_folders(dataset_dir: str, folder: pathlib.Path) -> None:
    """The pictures of both splits, as split/CLASS/NUMBER.jpg."""
    from datasets import batches, tfrecord_dataset

    for split in ("train", "validation"):
        dataset = tfrecord_dataset.find(dataset_dir, split=split)
        for number, example in enumerate(batches.first_examples(dataset, dataset.num_examples)):
            label = f"{int(example['label']):03}"
            (folder / split / label).mkdir(parents=True, exist_ok=True)
            picture = Image.open(io.BytesIO(example["encoded"].numpy())).convert("RGB")
            picture.save(folder / split / label / f"{number}.jpg", quality=95)


def commands(args: argparse.Namespace, folder: pathlib.Path) -> dict[str, list[str]]:
    """The command of each side; {} stands for a folder of its own."""
    shared = [f"--model_name={args.model_name}", f"--learning_rate={args.learning_rate}"]
    ours = [
        *(sys.executable, "train_image_classifier.py", *shared, "--train_dir={}/train"),
        *(f"--dataset_dir={args.dataset_dir}", f"--train_image_size={args.image_size}"),
        *(f"--max_number_of_steps={args.steps}", f"--eval_every_n_steps={args.steps}"),
        *("--optimizer=adam", "--opt_epsilon=1e-7", "--learning_rate_decay_type=cosine"),
        *("--end_learning_rate=0.00001", "--log_every_n_steps=100", *args.more),
    ]
    if args.model_name != "small_cnn":
        ours.append("--batch_norm_decay=0.99")
    peer = [
        *(sys.executable, str(_PEER), *shared, f"--data_dir={folder}", "--output={}/model.keras"),
        *(f"--image_size={args.image_size}", f"--steps={args.steps}"),
    ]
    return {"ours": ours, "Keras": peer}


def timed(command: list[str]) -> tuple[float, str]:
    """Seconds of a process, and the last line of its output that names an accuracy, or its last."""
    with tempfile.TemporaryDirectory() as own:
        began = time.perf_counter()
        result = subprocess.run(
            [part.replace("{}", own) for part in command], capture_output=True, text=True
        )
        took = time.perf_counter() - began
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")
    lines = result.stdout.strip().splitlines()
    return took, next((line for line in reversed(lines) if "ccuracy" in line), lines[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset_dir", required=True)
    parser.add_argument("--model_name", default="mobilenet_v1_025")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--learning_rate", type=float, default=0.006)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("more", nargs="*", help="More flags of our side, behind --.")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        write_folders(args.dataset_dir, folder)
        taken: dict[str, list[float]] = {}
        for _ in range(args.turns):
            for side, command in commands(args, folder).items():
                seconds, said = timed(command)
                taken.setdefault(side, []).append(seconds)
                print(f"{side:6} {seconds:6.1f} s   {said}", flush=True)
    ratio = statistics.median(taken["Keras"]) / statistics.median(taken["ours"])
    print(f"{args.model_name}, {args.image_size} pixels, {args.steps} steps: {ratio:.2f} times")


if __name__ == "__main__":
    main()
