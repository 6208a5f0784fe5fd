"""What a net gains by having seen other classes first, at few images a class.

python -m benchmarks.transfer --cifar_dir=cifar10_folders --photographs_dir=animals_voc \
    --output_dir=transfer

A small net learns seven of CIFAR-10's classes. Then it learns the other three, and raccoons and
kangaroos, from 10, 50 and 200 images a class: from scratch, by its head alone, and as a whole. Each
answer is that of images that no training saw. All runs of a target take the same number of steps.
"""

import dataclasses
import json
import pathlib
import random
import shutil
import statistics

import command_line
from command_line import say
from foundation import files
from foundation.options import Options, option, options

_NET, _HEAD = "mobilenet_v1_025", "MobilenetV1/Logits"
_SIZE = 64
_LATER_CLASSES = ("cat", "horse", "truck")
_ARMS = ("from scratch", "head alone", "whole net")
_SETTINGS = {
    "model_name": _NET,
    "train_image_size": _SIZE,
    "optimizer": "adam",
    "opt_epsilon": 1e-7,
    "learning_rate_decay_type": "cosine",
    "end_learning_rate": 1e-5,
    "horizontal_flip": True,
    "batch_norm_decay": 0.97,
}


@options
class TransferBenchmark(Options):
    """What is transferred to what."""

    cifar_dir: str | None = option(None, "Folders train/CLASS and test/CLASS.", path=True)
    photographs_dir: str | None = option(
        None, "Folders images and annotations of another dataset.", path=True
    )
    output_dir: str = option("transfer", "Records, runs, transfer.json and transfer.png.")
    first_steps: int = option(3000, "Steps on the first classes.", bounds=(1, None))
    steps: int = option(300, "Steps on each target.", bounds=(1, None))
    seeds: int = option(2, "Draws of the few images, each trained anew.", bounds=(1, None))
    images_per_class: tuple[int, ...] = option((10, 50, 200), "Images a class of the targets.")


@dataclasses.dataclass(frozen=True)
class Target:
    """Classes to be learnt: folders of a class each, for training and for the answer."""

    name: str
    train: pathlib.Path
    test: pathlib.Path


def main(given: TransferBenchmark) -> None:
    command_line.load_tensorflow()
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # each run is traced anew, which TensorFlow would warn of
    place = pathlib.Path(given.output_dir)
    cifar = pathlib.Path(given.cifar_dir)
    first = [path.name for path in sorted(cifar.glob("train/*")) if path.name not in _LATER_CLASSES]
    checkpoint = _first_net(given, place, cifar, first)
    targets = [_other_classes(place, cifar)]
    if given.photographs_dir:
        targets.append(_photographs(place, pathlib.Path(given.photographs_dir)))
    found = {target.name: _gains(given, place, target, checkpoint) for target in targets}
    with files.whole(place / "transfer.json") as file:
        json.dump(found, file, indent=2)
    _plot(found, str(place / "transfer.png"))
    for line in _table(found):
        say(line)


def _first_net(given: TransferBenchmark, place, cifar, classes) -> str:
    folder = place / "first_images"
    for split in ("train", "test"):
        for name in classes:
            _copy(sorted((cifar / split / name).iterdir()), folder / split / name)
    records = _records(folder, place / "first_records")
    run = place / "first"
    _train(records, run, max_number_of_steps=given.first_steps, learning_rate=0.003)
    say(f"{len(classes)} first classes: {_accuracy(run, place, records):.1%} of their test images")
    return str(run)


def _other_classes(place, cifar) -> Target:
    folder = place / "later_images"
    for split in ("train", "test"):
        for name in _LATER_CLASSES:
            _copy(sorted((cifar / split / name).iterdir()), folder / split / name)
    return Target(", ".join(_LATER_CLASSES), folder / "train", folder / "test")


def _photographs(place, source) -> Target:
    """The photographs in a folder a class, by their annotations; a third is for the answer."""
    from lxml import etree

    folder = place / "photographs"
    classes: dict[str, list[pathlib.Path]] = {}
    for annotation in sorted((source / "annotations").glob("*.xml")):
        root = etree.parse(str(annotation)).getroot()
        image = source / "images" / root.findtext("filename")
        classes.setdefault(root.findtext("object/name"), []).append(image)
    for name, images in classes.items():
        random.Random(0).shuffle(images)
        held_back = len(images) // 3
        _copy(images[:held_back], folder / "test" / name)
        _copy(images[held_back:], folder / "train" / name)
    return Target(", ".join(classes), folder / "train", folder / "test")


def _gains(given: TransferBenchmark, place, target: Target, checkpoint: str) -> list[dict]:
    found = []
    for count in given.images_per_class:
        accuracies = {arm: [] for arm in _ARMS}
        for seed in range(given.seeds):
            folder = place / f"{target.train.parent.name}_{count}_{seed}"
            least = min(_draw(path, count, seed, folder) for path in sorted(target.train.iterdir()))
            shutil.copytree(target.test, folder / "test", dirs_exist_ok=True)
            records = _records(folder, folder.with_suffix(".records"))
            for arm in _ARMS:
                run = folder.with_suffix(f".{arm.replace(' ', '_')}")
                _train(records, run, max_number_of_steps=given.steps, **_of(arm, checkpoint, seed))
                accuracies[arm].append(_accuracy(run, place, records))
                say(f"{target.name}, {least} a class, {arm}: {accuracies[arm][-1]:.1%}")
        found.append({"images_per_class": least, "accuracies": accuracies})
    return found


def _of(arm: str, checkpoint: str, seed: int) -> dict:
    if arm == "from scratch":
        return {"learning_rate": 0.003, "seed": seed}
    restored = {"checkpoint_path": checkpoint, "checkpoint_exclude_scopes": (_HEAD,), "seed": seed}
    if arm == "head alone":
        return {**restored, "learning_rate": 0.003, "trainable_scopes": (_HEAD,)}
    return {**restored, "learning_rate": 0.001}


def _draw(source: pathlib.Path, count: int, seed: int, folder: pathlib.Path) -> int:
    """Copies some images of a class; returns how many there were, `count` at most."""
    images = sorted(source.iterdir())
    random.Random(seed).shuffle(images)
    _copy(images[:count], folder / "train" / source.name)
    return len(images[:count])


def _copy(images, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        shutil.copy(image, folder / image.name)


def _records(images: pathlib.Path, place: pathlib.Path) -> str:
    from runs import options as job
    from runs.convert import convert

    convert(
        job.ConvertOptions.of(image_dir=str(images), output_dir=str(place), dataset_name="few"),
        _silent,
    )
    return str(place)


def _train(records: str, run: pathlib.Path, **changes) -> None:
    from runs import options as job
    from runs.train import train

    settings = {**_SETTINGS, "dataset_dir": records, "train_dir": str(run), **changes}
    train(job.TrainOptions.of(**settings), _silent)


def _accuracy(run: pathlib.Path, place: pathlib.Path, records: str) -> float:
    from runs import options as job
    from runs.evaluate import evaluate

    options = job.EvaluateOptions.of(
        checkpoint_path=str(run), eval_dir=str(place / "eval"), dataset_dir=records
    )
    return evaluate(options, _silent).accuracy


def _silent(line: str) -> None:
    pass


def _table(found: dict) -> list[str]:
    lines = [f"| classes | images a class | {' | '.join(_ARMS)} |", "|---|---|---|---|---|"]
    for name, rows in found.items():
        for row in rows:
            cells = (_cell(row["accuracies"][arm]) for arm in _ARMS)
            lines.append(f"| {name} | {row['images_per_class']} | {' | '.join(cells)} |")
    return lines


def _cell(accuracies: list[float]) -> str:
    return f"{statistics.mean(accuracies):.1%} ({min(accuracies):.1%} to {max(accuracies):.1%})"


def _plot(found: dict, path: str) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(5 * len(found), 4), squeeze=False)
    for axis, (name, rows) in zip(axes[0], found.items(), strict=True):
        counts = [row["images_per_class"] for row in rows]
        for arm in _ARMS:
            means = [100 * statistics.mean(row["accuracies"][arm]) for row in rows]
            axis.plot(counts, means, marker="o", label=arm)
        axis.set(title=name, xlabel="images a class", xscale="log")
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("right, % of images not trained on")
    axes[0][0].legend()
    with files.whole(path, "wb") as file:
        figure.savefig(file, format="png", dpi=120, bbox_inches="tight")
    plt.close(figure)


if __name__ == "__main__":
    command_line.run(main, TransferBenchmark)
