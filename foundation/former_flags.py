"""Flags of TF-Slim's and TensorFlow's old scripts, and what to type today."""

from collections.abc import Sequence

# absl's numbers, and TensorFlow's words, for --verbosity.
VERBOSITY = {
    "-3": "error",
    "-2": "error",
    "-1": "warning",
    "0": "info",
    "1": "debug",
    "fatal": "error",
    "warn": "warning",
}
# absl's other flags for its log.
_SWITCHES = ("logtostderr", "alsologtostderr", "showprefixforinfo")
_WITH_VALUES = ("v", "log_dir", "stderrthreshold", "logger_levels")

# Flag → the answer of a script that lacks it.
TODAY = {
    # export_inference_graph.py and freeze_graph.py
    "output_graph": "export_model.py --output_file=X.pb",
    "input_graph": "export_model.py --freeze_graph=GRAPH --checkpoint_path=CHECKPOINT freezes a "
    "graph; classify_image.py --model=GRAPH names pictures",
    "input_checkpoint": "--checkpoint_path=CHECKPOINT",
    "output_node_names": "export_model.py --output_node_names=NODE, with --freeze_graph=GRAPH",
    "input_saved_model_dir": "export_model.py --checkpoint_path=TRAIN_DIR --formats=frozen_graph",
    "saved_model_tags": "export_model.py --checkpoint_path=TRAIN_DIR --formats=frozen_graph",
    "input_meta_graph": "export_model.py --freeze_graph=GRAPH, of export_inference_graph.py",
    "variable_names_whitelist": "export_model.py --output_node_names=NODE; it takes what they need",
    "variable_names_blacklist": "export_model.py --output_node_names=NODE; it takes what they need",
    "checkpoint_version": "nothing: the checkpoint itself shows it",
    # label_image.py, classify_image.py and retrain.py
    "graph": "classify_image.py --model=GRAPH",
    "model_dir": "classify_image.py --model=FOLDER",
    "image_file": "classify_image.py --image=FILE",
    "image": "classify_image.py --image=FILE",
    "num_top_predictions": "classify_image.py --top_k=NUMBER",
    "labels": "classify_image.py --labels=FILE; export_model.py --labels_file=FILE",
    "input_layer": "classify_image.py --input_layer=NODE",
    "output_layer": "classify_image.py --output_layer=NODE",
    "how_many_training_steps": "train_image_classifier.py --max_number_of_steps=NUMBER",
}


def without_logging(argv: Sequence[str]) -> list[str]:
    """A command line without absl's flags for its log, which those of TF-Slim's scripts carry.

    They are taken for nothing: lines go to the screen, which is what most of them ask for.
    """
    kept, rest = list(argv[:1]), list(argv[1:])
    while rest and rest[0] != "--":
        word = rest.pop(0)
        name, equals, _ = word.lstrip("-").partition("=")
        is_switch = name.removeprefix("no") in _SWITCHES
        if not word.startswith("-") or not (is_switch or name in _WITH_VALUES):
            kept.append(word)
        elif rest and not equals:
            is_value = rest[0].lower() in ("true", "false") if is_switch else rest[0][:2] != "--"
            del rest[: int(is_value)]
    return kept + rest
