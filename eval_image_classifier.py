"""Evaluates an image classifier on a split of a dataset, each example exactly once.

python eval_image_classifier.py --checkpoint_path=output --eval_dir=output_eval

Net, image size, preprocessing, classes and dataset come from the run.json beside the checkpoint; a
checkpoint without one, such as TF-Slim's own, needs --model_name and --dataset_dir.
"""

import functools
import os

from absl import flags

import shared_flags
from shared_flags import UsageError, say, shortened

shared_flags.define_dataset_flags(split="test")
shared_flags.define_input_flags()
shared_flags.define_model_flags(name_default="inception_v3")
shared_flags.define_checkpoint_flags()
shared_flags.define_legacy_flags()

flags.DEFINE_enum(
    "tta",
    "none",
    ["none", "flip", "five_crop", "ten_crop"],
    "Test-time augmentation: the mean over the image and its mirror image, over five crops, or "
    "over these and their mirror images.",
)
flags.DEFINE_string("eval_dir", "/tmp/tfmodel/", "Folder for the numbers, tables and the report.")
flags.DEFINE_integer("batch_size", 100, "Images at once.", lower_bound=1)
flags.DEFINE_integer(
    "max_num_batches", None, "Stop after so many batches; unset: all examples.", lower_bound=1
)
flags.DEFINE_integer(
    "eval_image_size", None, "Side of the images; unset: as trained, else the net's.", lower_bound=1
)
flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "tf32", "bfloat16"],
    "Arithmetic of the net's layers. tf32: float32 whose factors GPUs round to 10 bits.",
)

FLAGS = flags.FLAGS
_SPLITS = ("test", "validation")  # the first that is there, unless one is asked for


def main() -> None:
    shared_flags.check_legacy_flags()
    config = shared_flags.run_of_checkpoint(size_flag="eval_image_size")
    source = shared_flags.dataset_source(config)
    if not (source["dataset_dir"] or source["tfrecord_file"]):
        raise UsageError(
            f"say where the data is: --dataset_dir=FOLDER or --tfrecord_file=FILE. "
            f"({FLAGS.checkpoint_path} has no run.json that would know.)"
        )
    try:
        os.makedirs(FLAGS.eval_dir, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--eval_dir={FLAGS.eval_dir} can't be made: {error.strerror}. Name a folder that can "
            "be written."
        ) from error
    shared_flags.load_tensorflow()
    evaluate(config)


def evaluate(config) -> None:
    """Restores the net, runs it over the dataset and writes the report.

    config: of the run, or None for a checkpoint of TF-Slim's own.
    """
    import tensorflow as tf
    from tqdm import tqdm

    from datasets import bad_records, batches
    from evaluation import evaluator, report, views
    from nets import checkpoints, nets_factory, precision

    for gpu in tf.config.list_physical_devices("GPU"):
        # A training may be running on it.
        tf.config.experimental.set_memory_growth(gpu, True)
    dataset, dropped = bad_records.drop(_dataset(config), FLAGS.max_bad_records)
    for line in bad_records.summary(dropped):
        say(line)
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
        dtype=precision.choose(FLAGS.precision),
        **config.net_options,
    )
    averages = bool(config.moving_average_decay)
    say(str(checkpoints.restore(model, reader, use_moving_averages=averages)))
    say(
        f"Net: {config.model_name}, images {config.image_size} x {config.image_size} x "
        f"{config.channels}, recipe {config.preprocessing_name}, {FLAGS.precision}"
        + (", moving averages" if averages else "")
        + (f", mean of --tta={FLAGS.tta}" if FLAGS.tta != "none" else "")
    )
    say(
        f"Data: {dataset.num_examples} examples of split {dataset.split} in "
        f"{os.path.dirname(dataset.sources[0]) or '.'}, {dataset.num_classes} classes"
    )

    size = views.whole_size(FLAGS.tta, config.image_size)
    beside = functools.partial(os.path.join, shared_flags.checkpoint_dir())
    recipe = shared_flags.recipe(config, beside, sizes=[size])

    def decode(encoded):
        return recipe.evaluate(encoded, size, use_grayscale=config.use_grayscale)

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
            lambda: evaluator.evaluate(
                views.mean_of(predict, config.image_size, FLAGS.tta),
                examples,
                dataset.num_classes,
                on_batch=bar.update,
            ),
        )
    if evaluation.num_examples != expected:
        raise ValueError(
            f"{dataset.files[0]}: {evaluation.num_examples} examples were read where {expected} "
            "were counted. The files changed meanwhile: run the evaluation again."
        )

    step = checkpoints.global_step(reader) or 0
    about = {
        "model_name": config.model_name,
        "checkpoint": reader.path,
        "global_step": step,
        "moving_averages": averages,
        "image_size": config.image_size,
        "preprocessing_name": config.preprocessing_name,
        "use_grayscale": config.use_grayscale,
        "precision": FLAGS.precision,
        "tta": FLAGS.tta,
        "batch_size": FLAGS.batch_size,
        "dataset": dataset.name,
        "split": dataset.split,
        "files": list(dataset.sources),
        "bad_records": [str(record) for record in dropped],
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
    say(
        f"{evaluation.num_correct} of {evaluation.num_examples} are right, "
        f"{evaluation.num_examples / evaluation.seconds:.1f} images/s. "
        f"See {os.path.join(FLAGS.eval_dir, 'report.html')}, or "
        f"tensorboard --logdir_spec=train:{shared_flags.checkpoint_dir()},eval:{FLAGS.eval_dir}"
    )
    for line in bad_records.summary(dropped):
        say(line)
    say(f"eval/Accuracy[{evaluation.accuracy:.4f}]")
    say(f"eval/Recall_5[{evaluation.recall_at(5):.4f}]")


def _dataset(config):
    """The dataset of the run, where the flags name no other."""
    from datasets import tfrecord_dataset

    source = shared_flags.dataset_source(config)
    file_of_run = source["tfrecord_file"] and not FLAGS.tfrecord_file
    splits = _SPLITS
    if FLAGS["dataset_split_name"].present:
        splits = (FLAGS.dataset_split_name,)
    elif source["tfrecord_file"]:
        # Files have no splits to choose from; those of a run are what it was trained on.
        splits = (config.dataset_split_name if file_of_run else FLAGS.dataset_split_name,)
    first_error = None
    for split in splits:
        try:
            dataset = tfrecord_dataset.find(split=split, **source)
        except ValueError as error:
            first_error = first_error or error
            continue
        if first_error:
            say(f"{first_error} Evaluating the {dataset.split} split.")
        elif file_of_run:
            say(
                f"Evaluating on {config.tfrecord_file}, which the run was trained on; "
                "--tfrecord_file=FILE would take another."
            )
        return dataset
    raise first_error


def _open_checkpoint(config, num_classes: int):
    from nets import pretrained

    name = config.model_name if config else FLAGS.model_name
    return pretrained.read(name, FLAGS.checkpoint_path, num_classes, FLAGS.cache_dir, say)


def _config_without_run(reader, dataset):
    """TF-Slim's own checkpoints: net from the flags, classes from the dataset."""
    from nets import checkpoints, nets_factory

    net = nets_factory.get(FLAGS.model_name)
    num_classes = dataset.num_classes
    channels = 1 if FLAGS.use_grayscale else None
    head_size = checkpoints.head_size(net, reader, num_classes, FLAGS.eval_image_size, channels)
    if net.background_class and head_size == num_classes + 1:
        num_classes += 1
        say(
            f"The checkpoint has {num_classes} classes, the dataset {dataset.num_classes}: "
            f"its class 0 is the background of {net.name}, and is left out."
        )
    return shared_flags.run_of_flags(
        net, reader, num_classes, dataset.labels, FLAGS.eval_image_size
    )


def _check_labels(config, dataset) -> None:
    if dataset.labels != config.labels:
        raise ValueError(
            f"The checkpoint was trained on the classes {shortened(config.labels)}, the dataset "
            f"has {shortened(dataset.labels)}. Evaluate on a dataset with the same classes."
        )


if __name__ == "__main__":
    shared_flags.run(main)
