"""The training as a function, without its script."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

from datasets import frames, schema
from foundation.errors import InputError
from nets import checkpoints
from runs import config as run_config
from runs import evaluate, train
from runs.options import EvaluateOptions, TrainOptions
from tests.conftest import ROOT, write_colours
from training import summaries
from training.contracts import Ending

SMALLEST = {"model_name": "small_cnn", "small_cnn_filters": (4,), "train_image_size": 16}
SMALLEST |= {"small_cnn_dense_units": 4, "batch_size": 8}


def options(colours, train_dir, **given):
    return TrainOptions.of(dataset_dir=str(colours), train_dir=str(train_dir), **SMALLEST | given)


@pytest.fixture(scope="module", autouse=True)
def without_curves():
    """Pictures of them take longer than these runs; those of scripts have them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summaries.RunLog, "plot", lambda self: None)
        yield


def test_a_run_stopped_early_is_finished(colours, tmp_path):
    given = {"eval_every_n_steps": 1, "early_stopping_patience": 1, "learning_rate": 0.0}
    given |= {"learning_rate_decay_type": "fixed", "weight_decay": 0.0}
    chosen = options(colours, tmp_path / "run", max_number_of_steps=50, **given)
    lines = []
    first = train.train(chosen, lines.append)
    assert (first.ending, first.was_finished) == (Ending.EARLY_STOPPING, False)
    assert any(f"at step {first.step}; the run is finished." in line for line in lines)
    again = train.train(chosen, lines.append)
    assert again.was_finished and again.step == first.step
    assert lines[-1].startswith(f"Already at step {first.step}: nothing left to train.")
    assert "a higher number goes on" in lines[-1]
    assert again.checkpoint_path == str(tmp_path / "run" / "best")


def test_a_run_knows_its_labels_offset(tmp_path, colours):
    begun = options(colours, tmp_path / "run", max_number_of_steps=1)
    assert train.train(begun, print).step == 1
    other = options(colours, tmp_path / "run", max_number_of_steps=2, labels_offset=1)
    with pytest.raises(InputError, match="--labels_offset=1, but the run has 0"):
        train.train(other, print)


def test_a_run_goes_on_with_its_own_labels_offset(tmp_path):
    colours = write_colours(tmp_path / "colours", first=1)
    begun = options(colours, tmp_path / "run", max_number_of_steps=1, labels_offset=1)
    assert train.train(begun, print).step == 1
    goes_on, lines = {"max_number_of_steps": 2, "learning_rate": 0.002}, []
    assert train.train(options(colours, tmp_path / "run", **goes_on), lines.append).step == 2
    changed = "Unlike the run so far, from model.ckpt-1 on: learning_rate 0.01 → 0.002"
    assert [line for line in lines if line.startswith("Unlike")] == [changed]
    config = run_config.load(str(tmp_path / "run"))
    assert (config.labels_offset, config.labels) == (1, ("blue", "green", "red"))
    assert config.num_examples == 24 and len(config.fingerprint) == 64


def test_defaults_that_hold_a_run_back_are_named(colours, tmp_path):
    lines, given = [], {"optimizer": "adam", "learning_rate_decay_type": "polynomial"}
    train.train(options(colours, tmp_path / "a", max_number_of_steps=8, **given), lines.append)
    text = "\n".join(lines)
    assert "--optimizer=adam takes TF-Slim's --opt_epsilon=1" in text
    # 24 pictures are 3 batches of 8, and 2 epochs 6 steps.
    assert "down to --end_learning_rate at step 6, after --num_epochs_per_decay=2 epochs" in text
    given |= {"opt_epsilon": 1.0, "num_epochs_per_decay": 2.0}
    train.train(options(colours, tmp_path / "b", max_number_of_steps=8, **given), lines.append)
    assert "\n".join(lines).count("Warning: --optimizer=adam") == 1
    assert "\n".join(lines).count("Warning: the learning rate is down") == 1


def test_run_json_says_how_long_the_training_took(colours, tmp_path):
    trained = []
    for steps in (1, 3):
        train.train(options(colours, tmp_path / "run", max_number_of_steps=steps), print)
        trained.append(run_config.load(str(tmp_path / "run")).trained)
    assert [part["images"] for part in trained] == [8, 24]
    assert 0 < trained[0]["seconds"] < trained[1]["seconds"] < 300


def test_a_crash_counts_up_to_the_last_checkpoint(colours, tmp_path):
    given = {"max_number_of_steps": 5, "log_every_n_steps": 1, "save_interval_secs": 0.001}
    chosen = options(colours, tmp_path / "run", **given)

    def crash(line):
        if line.startswith("step 4"):
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        train.train(chosen, crash)
    saved = checkpoints.global_step(checkpoints.read(checkpoints.latest(chosen.training.train_dir)))
    assert 0 < saved < 4
    before = run_config.load(str(tmp_path / "run")).trained
    assert before["images"] == 8 * saved and before["seconds"] > 0
    train.train(chosen, print)
    after = run_config.load(str(tmp_path / "run")).trained
    assert after["images"] == 40 and after["seconds"] > before["seconds"]


@pytest.mark.parametrize("gone", ["the folder", "its run.json"])
def test_a_folder_that_is_removed_during_the_run_is_not_made_anew(colours, tmp_path, gone):
    folder = tmp_path / "run"
    given = {"max_number_of_steps": 4, "log_every_n_steps": 1, "save_interval_secs": 0.001}

    def remove(line):
        if line.startswith("step 2"):
            shutil.rmtree(folder) if gone == "the folder" else (folder / "run.json").unlink()

    message = f"--train_dir=.*/run: {gone} is gone.* Put it back"
    with pytest.raises(InputError, match=message):
        train.train(options(colours, folder, **given), remove)
    assert folder.exists() == (gone != "the folder")
    assert not (folder / "model.ckpt-3.index").exists()


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_records_that_others_take_the_place_of_end_the_run(tmp_path, cache):
    """As many as before and of the same size: no count tells them apart."""
    folder = write_colours(tmp_path / "data", per_class=4)
    (shard,) = folder.glob("*_train-*")
    given = {"log_every_n_steps": 1, "cache": cache}
    train.train(options(folder, tmp_path / "run", max_number_of_steps=1, **given), print)

    def convert_anew(line):
        if line.startswith("step 2"):
            records = [b"".join(frame) for frame in frames.frames(str(shard), "")]
            shard.unlink()
            shard.write_bytes(b"".join(reversed(records)))

    chosen = options(folder, tmp_path / "run", max_number_of_steps=3, **given)
    if cache == "none":
        message = "has other records than it had.* the same command goes on from model.ckpt-1"
        with pytest.raises(InputError, match=f"{shard} {message}"):
            train.train(chosen, convert_anew)
    else:  # what the run reads is the former records
        train.train(chosen, convert_anew)
    last = checkpoints.latest(str(tmp_path / "run"))
    assert last.endswith("ckpt-1" if cache == "none" else "ckpt-3")


def test_a_failed_start_leaves_no_folder(colours, tmp_path):
    wrong = options(colours, tmp_path / "run", trainable_scopes=("Nowhere",))
    with pytest.raises(InputError, match="no variable in Nowhere"):
        train.train(wrong, print)
    assert not (tmp_path / "run").exists()


def test_a_second_run_in_the_folder_is_kept_out(tmp_path):
    with train.train_dir(str(tmp_path)):
        with pytest.raises(InputError, match=f"process {os.getpid()} on .* is training there"):
            with train.train_dir(str(tmp_path)):
                pass
    with train.train_dir(str(tmp_path)):
        pass


def test_a_folder_that_cant_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="--train_dir=.*can't be made"),
        train.train_dir(str(tmp_path / "file" / "run")),
    ):
        pass


def test_what_is_checked_first_needs_no_tensorflow(colours):
    code = "import sys; from runs import checks; from runs.options import TrainOptions\n"
    code += f"checks.training(TrainOptions.of(dataset_dir={str(colours)!r}))\n"
    code += "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("flags", [("--model_name=inceptoin_v3",), ("--dataset_dir=nowhere",)])
def test_mistyped_names_are_noticed_before_tensorflow_is_imported(colours, tmp_path, flags):
    command = [sys.executable, "-X", "importtime", str(ROOT / "train_image_classifier.py")]
    command += [f"--dataset_dir={colours}", f"--train_dir={tmp_path}/run", *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    error = done.stderr.splitlines()[-2 if done.returncode == 2 else -1]
    assert "nowhere" in error or "Did you mean inception_v3" in error
    assert not re.search(r"\| +(tensorflow|keras)\b", done.stderr)
    assert not (tmp_path / "run").exists()


def test_a_batch_size_is_found_and_kept_and_the_best_step_evaluated(colours, tmp_path):
    given = {"class_weights": "balanced", "balanced_sampling": True, "eval_every_n_steps": 3}
    given |= {"eval_split_name": "train", "batch_size": "auto"}
    lines = []
    train.train(options(colours, tmp_path / "run", max_number_of_steps=6, **given), lines.append)
    text = "\n".join(map(str, lines))
    assert text.count("eval/Accuracy[") == 2
    assert "The best evaluation was at step" in text
    assert "both make up for rare classes: together they count twice" in text
    chosen = json.loads((tmp_path / "run" / "run.json").read_text())["flags"]["batch_size"]
    assert f"--batch_size={chosen}. The learning rate stays" in text
    assert checkpoints.read(str(tmp_path / "run")).get("run_state/examples") == 6 * chosen
    lines.clear()
    train.train(options(colours, tmp_path / "run", max_number_of_steps=7, **given), lines.append)
    assert "images/s\nbatch" not in "\n".join(map(str, lines))
    assert checkpoints.read(str(tmp_path / "run")).get("run_state/examples") == 7 * chosen
    best, folder = str(tmp_path / "run" / "best"), str(tmp_path / "eval")
    evaluate.evaluate(EvaluateOptions.of(checkpoint_path=best, eval_dir=folder))


def test_of_two_lengths_the_shorter_is_told_and_a_recipe_of_run_json_with_its_file(
    colours, tmp_path
):
    folder, lines = tmp_path / "run", []
    train.train(options(colours, folder, max_number_of_steps=1, num_epochs=9), lines.append)
    told = "--max_number_of_steps=1 ends the run: with --num_epochs=9 it would not be shorter."
    assert told in lines
    path = folder / "run.json"
    path.write_text(path.read_text().replace('"preprocessing_name": "', '"preprocessing_name": "x'))
    said = f"^{re.escape(str(path))}: preprocessing_name 'x.*' is not a recipe. Did you mean"
    with pytest.raises(InputError, match=said):
        train.train(options(colours, folder, max_number_of_steps=2), lambda line: None)
    with pytest.raises(InputError, match=said):
        evaluate.evaluate(
            EvaluateOptions.of(checkpoint_path=str(folder), eval_dir=str(tmp_path / "eval"))
        )


def test_a_run_is_not_carried_on_with_another_optimizer_or_scopes(colours, tmp_path):
    def goes_on(steps=7, **given):
        chosen = options(colours, tmp_path / "run", max_number_of_steps=steps, **given)
        train.train(chosen, print)

    goes_on(6, optimizer="momentum")
    with pytest.raises(
        InputError, match="--optimizer=sgd, but .* was trained with --optimizer=momentum"
    ):
        goes_on(optimizer="sgd")
    with pytest.raises(
        InputError, match="--trainable_scopes=a,b, but .* with --trainable_scopes=\\."
    ):
        goes_on(optimizer="momentum", trainable_scopes=("a", "b"))
    goes_on(optimizer="momentum", fit="crop")
    with pytest.raises(InputError, match="--fit=stretch, but"):
        goes_on(optimizer="momentum", fit="stretch")


def test_files_that_are_named_are_not_evaluated_on(colours, tmp_path):
    first, second = (str(next(colours.glob(f"*_{s}*.tfrecord"))) for s in ("train", "validation"))
    given = {"tfrecord_file": first, "train_dir": str(tmp_path / "run"), "eval_every_n_steps": 3}
    given |= SMALLEST | {"max_number_of_steps": 6}
    with pytest.raises(InputError, match="by --eval_tfrecord_file"):
        train.train(TrainOptions.of(**given), print)
    lines = []
    train.train(TrainOptions.of(**given, eval_tfrecord_file=second), lines.append)
    assert any("eval/Accuracy[" in str(line) for line in lines)


def test_bad_records_of_the_evaluation_are_passed_over_too(colours, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(colours, data)
    path = next(data.glob("*_train*.tfrecord"))
    broken = data / "broken.tfrecord"
    record = schema.frame(schema.Example(b"<html>", "jpeg", 2, 2, 0, "", "", (), "").serialize())
    broken.write_bytes(path.read_bytes() + record)
    given = SMALLEST | {"tfrecord_file": str(path), "eval_tfrecord_file": str(broken)}
    given |= {"train_dir": str(tmp_path / "run"), "eval_every_n_steps": 3, "max_bad_records": 1}
    lines = []
    train.train(TrainOptions.of(**given, max_number_of_steps=6), lines.append)
    text = "\n".join(map(str, lines))
    assert f"Passed over 1 record that cannot be read:\n  {broken}: record " in text


def test_features_are_computed_anew_for_another_augmentation_or_other_classes(colours, tmp_path):
    given = {"trainable_scopes": ("SmallCnn/logits",), "feature_cache_augmentations": 1}
    data = shutil.copytree(colours, tmp_path / "data")
    turned = {"rotation_range": 90}
    cases = [({}, "filled"), ({}, "reused"), (turned, "filled"), (turned, "filled")]
    for i, (more, said) in enumerate(cases):
        if i == 3:  # as after a run that was killed before its first checkpoint
            for file in (tmp_path / "run").glob("*ckpt*"):
                file.unlink()
            labels = data / "labels.txt"
            labels.write_text(labels.read_text().replace("red", "pink"))
        lines, chosen = [], given | more | {"max_number_of_steps": 6 + i}
        train.train(options(data, tmp_path / "run", **chosen), lines.append)
        assert any(f"Feature cache: {said}" in str(line) for line in lines)


def test_a_search_for_a_rate_that_memory_does_not_hold_is_one_line(colours, tmp_path, monkeypatch):
    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(train.rate_finder, "find", full)
    with pytest.raises(InputError, match="--batch_size=8: is more than .* Try --batch_size=4,"):
        train.find_learning_rate(options(colours, tmp_path / "run"), print)
