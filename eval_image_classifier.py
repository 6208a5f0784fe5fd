"""Evaluates an image classifier on a split of a dataset, each example exactly once.

python eval_image_classifier.py --checkpoint_path=output --eval_dir=output_eval

Net, image size, preprocessing, classes and dataset come from the run.json beside the checkpoint; a
checkpoint without one, such as TF-Slim's own, needs --model_name and --dataset_dir.
"""

import os
import re

from absl import flags

import shared_flags
from shared_flags import UsageError

shared_flags.define_dataset_flags(split="test")
shared_flags.define_input_flags()
shared_flags.define_model_flags(name_default="inception_v3")
shared_flags.define_legacy_flags()

flags.DEFINE_string(
    "checkpoint_path",
    "/tmp/tfmodel/",
    "Training folder (its last checkpoint is taken), checkpoint, .keras or .h5 file, or the word "
    "pretrained.",
)
shared_flags.define_cache_dir_flag()
flags.DEFINE_string("eval_dir", "/tmp/tfmodel/", "Folder for the numbers, tables and the report.")
flags.DEFINE_integer("batch_size", 100, "Images at once.", lower_bound=1)
flags.DEFINE_integer(
    "max_num_batches", None, "Stop after so many batches; unset: all examples.", lower_bound=1
)
flags.DEFINE_integer(
    "eval_image_size", None, "Side of the images; unset: as trained, else the net's.", lower_bound=1
)
flags.DEFINE_float(
    "moving_average_decay",
    None,
    "Evaluate the moving averages of the variables; unset: if the run kept them; 0: never.",
)
flags.DEFINE_enum(
    "precision", "float32", ["float32", "bfloat16"], "Arithmetic of the net's layers."
)

FLAGS = flags.FLAGS
_SPLITS = ("test", "validation")  # the first that is there, unless one is asked for


def main() -> None:
    shared_flags.check_legacy_flags()
    config = _run_config()
    if not _dataset_given() and not (config and (config.dataset_dir or config.tfrecord_file)):
        raise UsageError(
            f"say where the data is: --dataset_dir=FOLDER or --tfrecord_file=FILE. "
            f"({FLAGS.checkpoint_path} has no run.json that would know.)"
        )
    shared_flags.load_tensorflow()
    evaluate(config)


def evaluate(config) -> None:
    """Restores the net, runs it over the dataset and writes the report.

    config: of the run, or None for a checkpoint of TF-Slim's own.
    """
    import tensorflow as tf
    from tqdm import tqdm

    from datasets import bad_records, batches
    from evaluation import evaluator, report
    from nets import checkpoints, nets_factory
    from preprocessing import preprocessing_factory

    for gpu in tf.config.list_physical_devices("GPU"):
        # A training may be running on it.
        tf.config.experimental.set_memory_growth(gpu, True)
    dataset, dropped = bad_records.drop(_dataset(config), FLAGS.max_bad_records)
    for record in dropped:
        _say(f"Passed over: {record}")
    reader = _open_checkpoint(config, dataset.num_classes)
    config = config or _config_without_run(reader, dataset)
    _check_labels(config, dataset)
    # A zoo checkpoint knows the background as class 0, which no example is of.
    num_hidden = config.num_classes - dataset.num_classes

    model = nets_factory.build(
        config.model_name,
        config.num_classes,
        config.image_size,
        config.channels,
        dtype="mixed_bfloat16" if FLAGS.precision == "bfloat16" else "float32",
        **config.net_options,
    )
    averages = bool(config.moving_average_decay)
    _say(str(checkpoints.restore(model, reader, use_moving_averages=averages)))
    _say(
        f"Net: {config.model_name}, images {config.image_size} x {config.image_size} x "
        f"{config.channels}, recipe {config.preprocessing_name}, {FLAGS.precision}"
        + (", moving averages" if averages else "")
    )
    _say(
        f"Data: {dataset.num_examples} examples of split {dataset.split} in "
        f"{os.path.dirname(dataset.files[0]) or '.'}, {dataset.num_classes} classes"
    )

    recipe = preprocessing_factory.get(config.preprocessing_name)

    def decode(encoded):
        return recipe.evaluate(
            encoded,
            config.image_size,
            use_grayscale=config.use_grayscale,
            **config.preprocessing_options,
        )

    shape = [None, config.image_size, config.image_size, config.channels]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False)
    def predict(images):
        return model(images, training=False)["logits"][:, num_hidden:]

    predict.get_concrete_function()  # traced here, so that it doesn't count as the net's time
    examples = batches.evaluation_batches(
        dataset,
        decode,
        FLAGS.batch_size,
        num_threads=FLAGS.num_preprocessing_threads,
        max_batches=FLAGS.max_num_batches,
        cache=FLAGS.cache,
    )
    expected = dataset.num_examples
    if FLAGS.max_num_batches is not None:
        expected = min(expected, FLAGS.max_num_batches * FLAGS.batch_size)
    # On a terminal only: in a log file its lines would overwrite nothing.
    with tqdm(total=expected, unit=" images", disable=None) as bar:
        evaluation = batches.explained(
            dataset,
            lambda: evaluator.evaluate(predict, examples, dataset.num_classes, on_batch=bar.update),
        )
    if evaluation.num_examples != expected:
        raise ValueError(
            f"{dataset.files[0]}: {evaluation.num_examples} examples were read where {expected} "
            "were counted. The files changed meanwhile: run the evaluation again."
        )

    step = _global_step(reader)
    about = {
        "model_name": config.model_name,
        "checkpoint": reader.path,
        "global_step": step,
        "moving_averages": averages,
        "image_size": config.image_size,
        "preprocessing_name": config.preprocessing_name,
        "use_grayscale": config.use_grayscale,
        "precision": FLAGS.precision,
        "batch_size": FLAGS.batch_size,
        "dataset": dataset.name,
        "split": dataset.split,
        "files": list(dataset.files),
        "dataset_fingerprint": dataset.fingerprint,
        "labels": list(dataset.labels),
        "tensorflow": tf.__version__,
    }
    report.write(
        FLAGS.eval_dir,
        evaluation,
        dataset.labels,
        about,
        step=step,
        value_range=recipe.value_range,
    )
    _say(
        f"{evaluation.num_correct} of {evaluation.num_examples} are right, "
        f"{evaluation.num_examples / evaluation.seconds:.1f} images/s. "
        f"See {os.path.join(FLAGS.eval_dir, 'report.html')}, or "
        f"tensorboard --logdir_spec=train:{_train_dir()},eval:{FLAGS.eval_dir}"
    )
    _say(f"eval/Accuracy[{evaluation.accuracy:.4f}]")
    _say(f"eval/Recall_5[{evaluation.recall_at(5):.4f}]")


def _train_dir() -> str:
    path = FLAGS.checkpoint_path
    return path if os.path.isdir(path) else os.path.dirname(path) or "."


def _run_config():
    """What run.json says, held against the flags set by hand; None where there is no run.json."""
    import dataclasses

    from training import run_config

    config = run_config.load(FLAGS.checkpoint_path)
    if config is None:
        return None
    given = shared_flags.explicit("model_name", "eval_image_size", "use_grayscale", "labels_offset")
    run_config.check_agrees(config, given | _preprocessing_given(), _train_dir())
    asked = FLAGS.moving_average_decay
    if asked and asked != config.moving_average_decay:
        raise ValueError(
            f"--moving_average_decay={asked}, but the run has {config.moving_average_decay} "
            f"({os.path.join(_train_dir(), run_config.FILE_NAME)}). Leave the flag out to take the "
            "run's value."
        )
    return dataclasses.replace(config, moving_average_decay=None) if asked == 0 else config


def _dataset_given() -> bool:
    return bool(FLAGS.dataset_dir or FLAGS.tfrecord_file)


def _dataset(config):
    """The dataset of the flags, else that of the run."""
    from datasets import tfrecord_dataset

    source = FLAGS if _dataset_given() else config
    splits = _SPLITS
    if FLAGS["dataset_split_name"].present:
        splits = (FLAGS.dataset_split_name,)
    elif source.tfrecord_file:
        # Files have no splits to choose from; those of a run are what it was trained on.
        splits = (source.dataset_split_name,)
    first_error = None
    for split in splits:
        try:
            dataset = tfrecord_dataset.find(
                dataset_dir=source.dataset_dir,
                dataset_name=source.dataset_name,
                split=split,
                tfrecord_file=source.tfrecord_file,
                path_to_csv=source.path_to_csv,
                labels_offset=config.labels_offset if config else FLAGS.labels_offset,
            )
        except ValueError as error:
            first_error = first_error or error
            continue
        if first_error:
            _say(f"{first_error} Evaluating the {dataset.split} split.")
        elif source is config and config.tfrecord_file:
            _say(
                f"Evaluating on {config.tfrecord_file}, which the run was trained on; "
                "--tfrecord_file=FILE would take another."
            )
        return dataset
    raise first_error


def _open_checkpoint(config, num_classes: int):
    from nets import pretrained

    name = config.model_name if config else FLAGS.model_name
    return pretrained.read(name, FLAGS.checkpoint_path, num_classes, FLAGS.cache_dir, _say)


def _config_without_run(reader, dataset):
    """TF-Slim's own checkpoints: net from the flags, classes from the dataset."""
    from nets import nets_factory, pretrained
    from training import run_config

    net = nets_factory.get(FLAGS.model_name)
    preprocessing_name = _preprocessing_given().get("preprocessing_name", net.preprocessing)
    num_classes = dataset.num_classes
    if net.background_class and _head_size(net, reader, num_classes) == num_classes + 1:
        num_classes += 1
        _say(
            f"The checkpoint has {num_classes} classes, the dataset {dataset.num_classes}: "
            f"its class 0 is the background of {net.name}, and is left out."
        )
    _say(
        f"{reader.path} has no run.json: taken as {net.name} with {num_classes} classes, "
        f"preprocessing {preprocessing_name}."
    )
    return run_config.RunConfig(
        model_name=net.name,
        num_classes=num_classes,
        labels=dataset.labels,
        image_size=FLAGS.eval_image_size or net.image_size,
        preprocessing_name=preprocessing_name,
        use_grayscale=bool(FLAGS.use_grayscale),
        labels_offset=FLAGS.labels_offset,
        moving_average_decay=FLAGS.moving_average_decay,
        net_options=pretrained.net_options(net.name, reader),
    )


def _head_size(net, reader, guess: int) -> int:
    """The number of classes in a checkpoint: the only shapes that depend on it tell."""
    from nets import checkpoints

    model = net.build(guess, FLAGS.eval_image_size, 1 if FLAGS.use_grayscale else None)
    for there, here in checkpoints.plan(model, reader).other_shape.values():
        if here[-1] == guess:
            return there[-1]
    return guess


def _preprocessing_given() -> dict[str, str]:
    """The recipe set by hand; a net's name stands for that net's recipe."""
    if not FLAGS.preprocessing_name:
        return {}
    shared_flags.load_tensorflow()
    from preprocessing import preprocessing_factory

    return {"preprocessing_name": preprocessing_factory.get(FLAGS.preprocessing_name).name}


def _check_labels(config, dataset) -> None:
    if dataset.labels != config.labels:
        raise ValueError(
            f"The checkpoint was trained on the classes {_shortened(config.labels)}, the dataset "
            f"has {_shortened(dataset.labels)}. Evaluate on a dataset with the same classes."
        )


def _shortened(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:5])}{' …' if names[5:] else ''} ({len(names)})"


def _global_step(reader) -> int:
    if "global_step" in reader.shapes:
        return int(reader.get("global_step"))
    number = re.search(r"-(\d+)$", reader.path)
    return int(number[1]) if number else 0


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    shared_flags.run(main)
