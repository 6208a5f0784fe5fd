"""Exports a trained classifier: SavedModel, frozen graph, TensorFlow Lite, ONNX.

python export_model.py --checkpoint_path=output --output_dir=exported

Takes the place of TF-Slim's export_inference_graph.py and of freezing its graph: with
--output_file=graph.pb it writes one frozen graph, weights included.
"""

import functools
import os

from absl import flags

import shared_flags
from shared_flags import UsageError, say, shortened

_FORMATS = ("saved_model", "frozen_graph", "tflite", "onnx")
_NUM_EXAMPLES = 8

shared_flags.define_dataset_flags(split="validation")
shared_flags.define_model_flags(name_default=None)
shared_flags.define_checkpoint_flags()
shared_flags.define_legacy_flags()
shared_flags.define_tracking_flag("the export, beside the run that it is of,")

flags.DEFINE_string("output_dir", None, "Folder to write the export into.")
flags.DEFINE_string(
    "output_file", None, "Frozen graph to write (X.pb), alone, in place of --output_dir."
)
flags.DEFINE_list(
    "formats", "saved_model,frozen_graph", f"What to write, of {', '.join(_FORMATS)}."
)
flags.DEFINE_bool("overwrite", False, "Replace a former export, once the new one is whole.")
flags.DEFINE_integer(
    "image_size", None, "Side of the images; unset: as trained, else the net's.", lower_bound=1
)
flags.DEFINE_integer(
    "batch_size",
    None,
    "Fixes the number of images that frozen graph, TFLite and ONNX take at once; unset: any.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "saved_model_version",
    1,
    "The SavedModel is saved_model/VERSION; TensorFlow Serving takes the highest.",
    lower_bound=1,
)
flags.DEFINE_enum(
    "tflite_quantization",
    "none",
    ["none", "float16", "dynamic"],
    "Weights of the TFLite file: float32, float16 (half the size), or int8 with activations in "
    "float (a quarter).",
)
flags.DEFINE_bool(
    "write_text_graphdef",
    False,
    "Also write the frozen graph as text (.pbtxt), without weights, for reading.",
)
flags.DEFINE_string(
    "labels_file",
    None,
    "Class names, one a line, for a checkpoint without run.json and without --dataset_dir.",
)
flags.DEFINE_bool("is_training", False, "Of TF-Slim; only false is accepted.")
flags.DEFINE_bool("is_video_model", False, "Of TF-Slim; only false is accepted.")
flags.DEFINE_integer("num_frames", None, "Of TF-Slim, for video models; not accepted.")

FLAGS = flags.FLAGS


def check_flags() -> None:
    """Refuses what can't work before anything heavy is loaded."""
    shared_flags.check_legacy_flags()
    if FLAGS.is_training:
        raise UsageError(
            "--is_training: the training form of a net normalises by its batch and drops units at "
            "random, so its answers are of no use to others. Leave it out; to train on, give the "
            "checkpoint itself to train_image_classifier.py --checkpoint_path."
        )
    if FLAGS.is_video_model or FLAGS.num_frames is not None:
        raise UsageError("--is_video_model and --num_frames: nets for videos are not supported.")
    if bool(FLAGS.output_dir) == bool(FLAGS.output_file):
        raise UsageError(
            "say where to write: --output_dir=FOLDER for an export, or --output_file=X.pb for a "
            "frozen graph alone."
        )
    if unknown := [name for name in FLAGS.formats if name not in _FORMATS]:
        raise UsageError(f"--formats: {unknown[0]!r} is none of {', '.join(_FORMATS)}.")
    if not FLAGS.formats:
        raise UsageError(f"--formats is empty. Choose of {', '.join(_FORMATS)}.")
    if FLAGS.output_file:
        if FLAGS["formats"].present and FLAGS.formats != ["frozen_graph"]:
            raise UsageError(
                "--output_file writes a frozen graph alone; --formats needs --output_dir."
            )
        if not FLAGS.output_file.endswith(".pb"):
            raise UsageError(f"--output_file={FLAGS.output_file}: its name must end in .pb.")
    if FLAGS.write_text_graphdef and "frozen_graph" not in FLAGS.formats:
        raise UsageError("--write_text_graphdef needs frozen_graph among --formats.")
    if FLAGS.tflite_quantization != "none" and "tflite" not in FLAGS.formats:
        raise UsageError("--tflite_quantization needs tflite among --formats.")
    if FLAGS.labels_file and (FLAGS.dataset_dir or FLAGS.tfrecord_file):
        raise UsageError("--labels_file and a dataset both name the classes. Give one of them.")


def main() -> None:
    check_flags()
    config = _run()
    _check_tracking(config)
    shared_flags.load_tensorflow()
    export(config)


def export(config) -> None:
    """Restores the model and wires it to serving/exporter.py.

    config: of the run, or None for a checkpoint of TF-Slim's own.
    """
    import keras
    import tensorflow as tf

    from nets import checkpoints, nets_factory
    from serving import export_config, exporter, frozen_graph, onnx

    # Its warnings are of functions that TensorFlow itself calls.
    tf.get_logger().setLevel("ERROR")
    # On the processor: a training may be running on the GPU, whose rounding is its own, too.
    tf.config.set_visible_devices([], "GPU")
    if "onnx" in FLAGS.formats:
        onnx.require()

    reader = _open_checkpoint(config)
    config = config or _config_without_run(reader)
    beside = functools.partial(os.path.join, shared_flags.checkpoint_dir())
    recipe = shared_flags.recipe(config, beside)
    options = {"use_grayscale": config.use_grayscale}
    net = nets_factory.get(config.model_name)
    model = nets_factory.build(
        config.model_name,
        config.num_classes,
        config.image_size,
        config.channels,
        **config.net_options,
    )
    averages = bool(config.moving_average_decay)
    report = checkpoints.restore(model, reader, use_moving_averages=averages)
    say(str(report))
    say(
        f"Net: {config.model_name}, {config.num_classes} classes; images {config.image_size} x "
        f"{config.image_size} x {config.channels}, recipe {config.preprocessing_name}"
        + (", moving averages" if averages else "")
    )

    examples, source = _examples(config)
    zca_file = config.preprocessing_options.get("zca_file")
    subject = exporter.Subject(
        model=model,
        nodes=frozen_graph.Nodes(
            net.logits_node, net.predictions_node or frozen_graph.PROBABILITIES_NODE
        ),
        labels=config.labels,
        decode=functools.partial(recipe.evaluate, size=config.image_size, **options),
        prepare=functools.partial(recipe.evaluate_image, size=config.image_size, **options),
        config=export_config.ExportConfig(
            model_name=config.model_name,
            num_classes=config.num_classes,
            image_size=config.image_size,
            channels=config.channels,
            preprocessing_name=config.preprocessing_name,
            use_grayscale=config.use_grayscale,
            preprocessing_options=config.preprocessing_options,
            batch_size=FLAGS.batch_size,
            labels_offset=config.labels_offset,
            checkpoint=os.path.basename(reader.path),
            global_step=checkpoints.global_step(reader),
            moving_averages=averages,
            files={},
            nodes={},
            versions={"tensorflow": tf.__version__, "keras": keras.__version__},
        ),
        examples=examples,
        examples_source=source,
        companions={zca_file: beside(zca_file)} if zca_file else {},
    )
    if FLAGS.output_file:
        exported = exporter.export_file(
            FLAGS.output_file,
            subject,
            text=FLAGS.write_text_graphdef,
            overwrite=FLAGS.overwrite,
        )
        paths = {"frozen_graph": FLAGS.output_file}
    else:
        exported = exporter.export_folder(
            FLAGS.output_dir,
            subject,
            FLAGS.formats,
            saved_model_version=FLAGS.saved_model_version,
            tflite_quantization=FLAGS.tflite_quantization,
            text=FLAGS.write_text_graphdef,
            overwrite=FLAGS.overwrite,
        )
        paths = {
            name: os.path.join(FLAGS.output_dir, file) for name, file in exported.files.items()
        }
    say(f"Each file was run beside the checkpoint on {len(examples)} {source}:")
    for name, path in paths.items():
        difference = exported.check["largest_difference"][name]
        say(f"  {path}  {_size(path) / 2**20:.1f} MiB, logits within {difference:.1e}")
    if "frozen_graph" in paths:
        nodes = exported.nodes
        say(f"Graph nodes: {nodes['input']} -> {nodes['logits']}, {nodes['probabilities']}")
    model_path = FLAGS.output_file or FLAGS.output_dir
    if FLAGS.tracking == "mlflow":
        from training import tracking

        tracked = tracking.MlflowRun(config.mlflow_uri, "", config.mlflow_run_id, say)
        tracked.file(model_path, "exported_model")
        tracked.close("FINISHED")
        if not tracked.lost:
            say(f"MLflow: among the artifacts of run {tracked.run_id} as exported_model")
    say(f"Next: python classify_image.py --model={model_path} --image=photo.jpg")


def _run():
    """The RunConfig beside the checkpoint, or None; it names the classes, and nothing else may."""
    config = shared_flags.run_of_checkpoint(size_flag="image_size")
    if config and FLAGS.labels_file:
        raise ValueError(
            f"--labels_file={FLAGS.labels_file}: the run.json in {shared_flags.checkpoint_dir()} "
            "names the classes. Leave the flag out."
        )
    return config


def _check_tracking(config) -> None:
    if FLAGS.tracking == "mlflow" and not (config and config.mlflow_run_id):
        raise ValueError(
            f"--tracking=mlflow: MLflow knows no run of {FLAGS.checkpoint_path}. Train it with "
            "--tracking=mlflow, or leave the flag out."
        )


def _open_checkpoint(config):
    from nets import nets_factory, pretrained

    name = config.model_name if config else _model_name()
    num_classes = config.num_classes if config else nets_factory.get(name).checkpoint_outputs
    return pretrained.read(name, FLAGS.checkpoint_path, num_classes, FLAGS.cache_dir, say)


def _model_name() -> str:
    """The net of a checkpoint that does not say."""
    return FLAGS.model_name or "inception_v3"


def _config_without_run(reader):
    """TF-Slim's own checkpoints: net from the flags, number of classes from the checkpoint."""
    from nets import checkpoints, nets_factory

    net = nets_factory.get(_model_name())
    channels = 1 if FLAGS.use_grayscale else None
    num_classes = checkpoints.head_size(
        net, reader, net.checkpoint_outputs, FLAGS.image_size, channels
    )
    labels = _labels_of(num_classes)
    return shared_flags.run_of_flags(net, reader, num_classes, labels, FLAGS.image_size)


def _labels_of(num_classes: int) -> tuple[str, ...]:
    """Names for the classes of a checkpoint that brings none."""
    from serving import export_config

    if FLAGS.labels_file:
        source, labels = FLAGS.labels_file, export_config.load_labels(FLAGS.labels_file)
    elif shared_flags.dataset_given():
        dataset = _dataset(None)
        source, labels = "the dataset", dataset.labels
    else:
        say("The classes are named by their numbers; --labels_file=FILE would name them.")
        return tuple(str(index) for index in range(num_classes))
    if len(labels) == num_classes - 1:
        say("The checkpoint has one class more than there are names: class 0 is the background.")
        labels = ("background", *labels)
    if len(labels) != num_classes:
        raise ValueError(
            f"{FLAGS.checkpoint_path} has {num_classes} classes, {source} names {len(labels)}."
        )
    return labels


def _examples(config) -> tuple[list[bytes], str]:
    """Encoded pictures to check the export on, and what they are.

    Those of the dataset of the flags or of the run, or drawn ones where it can't be reached.
    """
    import tensorflow as tf

    from datasets import schema

    try:
        dataset = _dataset(config)
        if config.labels not in (dataset.labels, ("background", *dataset.labels)):
            raise ValueError(
                f"The dataset's classes are {shortened(dataset.labels)}, the model's "
                f"{shortened(config.labels)}. Leave the dataset's flags out, or give its own."
            )
        records = tf.data.TFRecordDataset(dataset.files, dataset.compression)
        examples = [
            schema.parse_example(record)["encoded"].numpy()
            for record in records.take(_NUM_EXAMPLES)
        ]
        return examples, f"pictures of {dataset.name or 'the dataset'}, split {dataset.split}"
    except (ValueError, OSError, tf.errors.OpError):
        if shared_flags.dataset_given():
            raise
    return _drawn_pictures(), "drawn pictures (the run's dataset is not within reach)"


def _dataset(config):
    """The dataset of flags and run, in the first of its splits that is there."""
    from datasets import tfrecord_dataset

    source = shared_flags.dataset_source(config)
    wanted = FLAGS.dataset_split_name
    splits = [wanted] if FLAGS["dataset_split_name"].present else [wanted, "test", "train"]
    for split in splits:
        try:
            return tfrecord_dataset.find(split=split, **source)
        except ValueError:
            if split == splits[-1]:
                raise


def _drawn_pictures() -> list[bytes]:
    """JPEG and PNG pictures of waves in all colours with noise; always the same."""
    import numpy as np
    import tensorflow as tf

    pictures = []
    noise = np.random.default_rng(0)
    for i in range(_NUM_EXAMPLES):
        height, width = 240 + 30 * i, 360 - 20 * i
        y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j][..., None]
        phase = noise.uniform(0, 6, 3)
        waves = np.sin((3 + 2 * i) * x + phase) * np.cos((9 - i) * y + phase[::-1])
        image = 127.5 + 100 * waves + noise.uniform(-25, 25, (height, width, 3))
        encode = tf.io.encode_png if i % 2 else tf.io.encode_jpeg
        pictures.append(encode(image.astype(np.uint8)).numpy())
    return pictures


def _size(path: str) -> int:
    """Bytes of a file, or of all files of a folder."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    places = [os.path.join(place, name) for place, _, names in os.walk(path) for name in names]
    return sum(os.path.getsize(place) for place in places)


if __name__ == "__main__":
    shared_flags.run(main)
