import os
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from foundation.options import changed
from nets import checkpoints, layers, mobilenet_v1, slim_names
from tests.conftest import events
from training import distribution, log, phases, run, settling, summaries, trainee
from training.contracts import Ending, Examples
from training.options import LengthOptions, TrainingOptions
from training.restoring import NetConfig
from training.run_state import Position

DRAWN = summaries.RunLog.plot


class Pictures:
    """24 pictures of noise, in batches of 8, some spoilt; a `training.contracts.Data`."""

    identity = {}

    def __init__(self, spoilt=None):
        self._spoilt = spoilt

    def batches(self, image_size, consumed):
        pictures = np.random.default_rng(0).uniform(-1, 1, (24, image_size, image_size, 3))
        each = {"image": pictures.astype(np.float32), "label": np.arange(24, dtype=np.int32) % 3}
        ds = tf.data.Dataset.from_tensor_slices(each).batch(8).repeat().skip(consumed // 8)
        return ds if self._spoilt is None else ds.enumerate(consumed // 8).map(self._spoilt)

    def check_unchanged(self):
        pass


def nan_at(*bad):
    """Batches of which some, by number, are NaN."""

    def spoil(number, batch):
        factor = tf.where(tf.reduce_any(tf.equal(number, bad)), np.nan, 1.0)
        return batch | {"image": batch["image"] * factor}

    return spoil


class Evaluation:
    """A `training.contracts.Validation` of a function from (model, stopped) to metrics."""

    def __init__(self, metrics):
        self.metrics, self.kept = metrics, []

    def keep(self, folder):
        # A run that is killed meanwhile leaves no checkpoint without its run.json.
        assert self.kept or not checkpoints.latest(folder)
        self.kept.append(folder)


def options_of(**given):
    """Options by name; short log intervals and no cache unless said otherwise."""
    defaults = {"batch_size": 8, "max_number_of_steps": 6, "feature_cache": "off"}
    return changed(TrainingOptions(), defaults | given)


def log_of(current, say):
    folder = current.options.train_dir
    saving = current.options.saving
    sinks = [
        log.Screen(say, current.last_step),
        summaries.RunLog(folder, current.first_step),
    ]
    return log.Log(sinks, say, saving.save_summaries_secs, saving.add_image_summaries)


@pytest.fixture(scope="module", autouse=True)
def small_and_soon_over():
    """A net with batch norm, soon traced; no picture of curves, and one batch measured at the end.

    Both are tried in test_train_image_classifier.py too.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mobilenet_v1, "PAIRS", mobilenet_v1.PAIRS[:1])
        patch.setattr(summaries.RunLog, "plot", lambda self: None)
        patch.setattr(settling, "_COMPARISON_SECS", 0.0)
        yield


def make_run(train_dir, evaluate=None, spoilt=None, class_weights=None, **options):
    """Makes a run of a small net; returns it, a function that trains it, and its lines."""
    chosen = options_of(train_dir=str(train_dir), **options)
    net, lines = NetConfig("mobilenet_v1_025", 3, 32), []
    examples = Examples(24, class_weights=class_weights)
    current = run.Run(chosen, net, examples, distribution.create(), lines.append)

    def train():
        validation = Evaluation(evaluate) if evaluate else None
        current.ending = current.train(Pictures(spoilt), log_of(current, current._say), validation)
        return current.position.step

    return current, train, lines


@pytest.fixture
def make(tmp_path):
    """`make_run` in the folder `run`, unless it gets another one."""
    return lambda train_dir=tmp_path / "run", **options: make_run(train_dir, **options)


@pytest.fixture(scope="module")
def three_steps(tmp_path_factory):
    """The folder of a run that has taken three steps."""
    folder = tmp_path_factory.mktemp("three_steps") / "run"
    make_run(folder, max_number_of_steps=3)[1]()
    return folder


@pytest.mark.parametrize(
    ("name", "given", "options"),
    [
        ("nasnet_cifar", {}, {"create_aux_logits": True}),
        ("inception_v3", {"create_aux_logits": False}, {"create_aux_logits": False}),
        ("lenet", {}, {}),
    ],
)
def test_nets_train_with_their_auxiliary_head(name, given, options):
    assert NetConfig(name, 3, 32, net_options=given).options_in_training == options


def images_and_labels():
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (8, 32, 32, 3)).astype(np.float32)
    return tf.data.Dataset.from_tensors({"image": images, "label": [0, 1, 2, 0, 1, 2, 0, 1]})


def test_what_changes_the_loss_does_so_by_its_formula(make):
    """Each option's loss in the first step, against numbers computed from the net's logits."""
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    plain = make(train_dir="none", weight_decay=0.0, precision="float32")[0]
    # Without dropout, and with the batch's statistics, as in training.
    for layer in plain.trainee.model.layers:
        if isinstance(layer, layers.Dropout):
            layer.keep_prob = 1.0
    (batch,) = images_and_labels()
    with layers.batch_statistics(0.0):
        logits = (
            plain.trainee.model(batch["image"], training=False)["logits"].numpy().astype(np.float64)
        )
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    true = log_p[np.arange(8), labels]
    decayed = set(slim_names.regularized(plain.trainee.model))
    penalty = sum(
        (v.numpy() ** 2).sum() / 2 for n, v in plain.trainee.weights.items() if n in decayed
    )
    expected = {
        "label_smoothing": (0.1, -(0.9 * true + 0.1 * log_p.mean(axis=1)).mean()),
        "focal_gamma": (2.0, -((1 - np.exp(true)) ** 2 * true).mean()),
        "class_weights": ((3.0, 1.0, 1.0), -(np.where(labels == 0, 3.0, 1.0) * true).mean()),
        "weight_decay": (0.01, -true.mean() + 0.01 * penalty),
    }
    assert penalty > 1
    for option, (value, loss) in expected.items():
        options = {"weight_decay": 0.0, "precision": "float32", "learning_rate": 0.0}
        options |= {option: value}
        current = make(train_dir="none", **options)[0]
        for layer in current.trainee.model.layers:
            if isinstance(layer, layers.Dropout):
                layer.keep_prob = 1.0
        found = current.step.run(iter(images_and_labels()), 1)["loss"]
        assert found == pytest.approx(loss, rel=1e-4), option


@pytest.mark.parametrize("options", [{"clip_gradient_norm": 1e-3}, {"clip_gradient_value": 1e-4}])
def test_what_clips_gradients_does(make, options):
    options |= {"optimizer": "sgd", "weight_decay": 0.0, "learning_rate": 1.0}
    current = make(train_dir="none", **options)[0]
    before = {name: value.numpy() for name, value in current.trainee.trained.items()}
    current.step.run(iter(images_and_labels()), 1)
    moved = [value.numpy() - before[name] for name, value in current.trainee.trained.items()]
    if "clip_gradient_norm" in options:
        assert sum((part**2).sum() for part in moved) ** 0.5 == pytest.approx(1e-3, rel=1e-3)
    else:
        assert max(np.abs(part).max() for part in moved) == pytest.approx(1e-4, rel=1e-3)


_FIXED = {"learning_rate_decay_type": "fixed"}


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({"warmup_steps": 10} | _FIXED, {0: 0.0, 5: 0.005, 20: 0.01}),
        ({"warmup_epochs": 2.0} | _FIXED, {0: 0.0, 3: 0.005, 20: 0.01}),  # of 3 steps
        (
            {"learning_rate_decay_type": "cosine", "max_number_of_steps": 100},
            {50: 0.00505, 100: 1e-4},
        ),
        ({"num_epochs_per_decay": 10.0, "learning_rate_decay_factor": 0.5}, {30: 0.005}),
    ],
)
def test_what_changes_the_rate_does(make, options, rates):
    current = make(train_dir="none", **{"max_number_of_steps": None} | options)[0]
    rate = current.step._learning_rate
    for step, expected in rates.items():
        assert float(rate(tf.constant(step, tf.int64))) == pytest.approx(expected, abs=1e-6)


def test_the_time_limit_ends_a_run(make):
    current, train, lines = make(max_number_of_steps=None, max_minutes=0.02)
    reached = train()
    assert reached > 0
    assert f"Stopped by the time limit at step {reached}" in lines[-1]


@pytest.mark.parametrize(
    ("asked", "resumes", "said"),
    [((1, 3), 0, "1 to 3"), ((2, 5), 3, "4 to 5"), ((4, 8), 0, "4 to 6"), ((1, 2), 3, "")],
)
def test_a_profile_is_taken_of_as_many_steps_as_there_are(
    make, tmp_path, three_steps, asked, resumes, said
):
    if resumes:
        shutil.copytree(three_steps, tmp_path / "run")
    current, train, lines = make(profile_steps=asked)
    assert train() == 6
    found = list((tmp_path / "run").glob("plugins/profile/*/*"))
    if said:
        assert found and any(line.startswith(f"Profiled steps {said}:") for line in lines)
    else:
        assert not found and any("no profile is taken" in line for line in lines)


def test_a_rollback_within_a_profile_goes_on(make, tmp_path, three_steps):
    shutil.copytree(three_steps, tmp_path / "run")
    options = {"on_nan": "rollback", "profile_steps": (4, 6), "log_every_n_steps": 1}
    current, train, lines = make(spoilt=nan_at(4), **options)
    assert train() == 6
    assert any("Rolled back to" in line for line in lines)
    assert sum(line.startswith("Profiled steps 4 to 6") for line in lines) == 1


def test_a_folder_without_a_checkpoint_has_no_best_step(make, tmp_path):
    (tmp_path / "run" / "best").mkdir(parents=True)
    (tmp_path / "run" / "best" / "best.json").write_text('{"accuracy": 0.99, "step": 5000}')
    current, train, lines = make(
        eval_every_n_steps=3, evaluate=lambda model, stopped: {"Accuracy": 0.2, "loss": 1.0}
    )
    train()
    assert (current.best.step, current.best.accuracy) == (3, 0.2)


def test_rates_and_unfreezing_know_scopes_that_are_frozen_yet(make):
    scope = "MobilenetV1/Conv2d_1"
    options = {"trainable_scopes": ("MobilenetV1/Logits",), "unfreeze": ((2, scope),)}
    current, train, lines = make(**options, learning_rate_multipliers=((scope, 0.1),))
    assert train() == 6
    assert any(line.startswith(f"--unfreeze: {scope} catches ") for line in lines)
    with pytest.raises(ValueError, match="--unfreeze"):
        make(train_dir="none", **options | {"unfreeze": ((1000, "MobilenetV1/Nowhere"),)})


def test_a_failure_leaves_the_history_and_a_failed_end(make, tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr(
        "training.log.Log.close",
        lambda self, status, close=log.Log.close: ended.append(status) or close(self, status),
    )

    current, train, lines = make(spoilt=nan_at(4), log_every_n_steps=1)
    with pytest.raises(ValueError, match="[Ss]tep 5"):
        train()
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert ended == ["FAILED"] and rows[-1].startswith("4,")
    make(train_dir=str(tmp_path / "other"), max_number_of_steps=1)[1]()
    assert ended[-1] == "FINISHED"


def test_images_are_not_shown_where_they_are_not_wanted(make, tmp_path):
    make(add_image_summaries=False, save_summaries_secs=600)[1]()
    found = events(tmp_path / "run")
    assert "inputs" not in found
    assert {"losses/main", "losses/regularization", "gradient_norm"} <= set(found)


def test_a_picture_that_fails_keeps_no_checkpoint_away(make, tmp_path, monkeypatch):
    def full(self):
        raise OSError("curves.png: could not be written: No space left on device.")

    monkeypatch.setattr("training.summaries.RunLog.plot", full)
    current, train, lines = make()
    assert train() == 6
    assert checkpoints.latest(str(tmp_path / "run")).endswith("model.ckpt-6")
    assert any(line.startswith("Warning: curves.png") for line in lines)


def values_at(train_dir):
    reader = checkpoints.read(str(train_dir))
    return {name: reader.get(name) for name in reader.names}


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(make, tmp_path):
    shared = {"moving_average_decay": 0.9, "seed": 3}
    make(train_dir=str(tmp_path / "whole"), **shared)[1]()
    for last_step in (4, 6):
        current, train, lines = make(
            train_dir=str(tmp_path / "parts"), max_number_of_steps=last_step, **shared
        )
        assert train() == last_step
    assert any("Resuming from" in line for line in lines)
    assert current.first_step == 4 and current.position == Position(6, 48)
    whole, parts = values_at(tmp_path / "whole"), values_at(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        # To the bit only with --deterministic; see test_train_image_classifier.py.
        np.testing.assert_allclose(parts[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_only_the_named_scopes_move_and_frozen_batch_norms_stand_still(make, tmp_path):
    current, train, lines = make(trainable_scopes=("MobilenetV1/Logits", "MobilenetV1/Conv2d_1"))
    before = checkpoints.values(current.trainee.model)
    train()
    moved = {
        name
        for name, value in checkpoints.values(current.trainee.model).items()
        if not np.array_equal(value, before[name])
    }
    assert moved
    assert all(name.startswith(("MobilenetV1/Logits", "MobilenetV1/Conv2d_1")) for name in moved)
    assert "MobilenetV1/Conv2d_1_pointwise/BatchNorm/moving_mean" in moved
    assert "--trainable_scopes: MobilenetV1/Logits catches 2 variables." in lines


def test_slims_frozen_batch_norm_moves_its_statistics(make):
    current, train, _ = make(
        trainable_scopes=("MobilenetV1/Logits",), frozen_batch_norm="slim", max_number_of_steps=2
    )
    before = checkpoints.values(current.trainee.model)
    train()
    after = checkpoints.values(current.trainee.model)
    name = "MobilenetV1/Conv2d_0/BatchNorm/moving_mean"
    assert not np.array_equal(before[name], after[name])
    assert np.array_equal(
        before["MobilenetV1/Conv2d_0/weights"], after["MobilenetV1/Conv2d_0/weights"]
    )


def test_a_scope_that_catches_nothing_is_an_error(make):
    with pytest.raises(ValueError, match="--trainable_scopes: no variable in MobilenetV1/Logit5"):
        make(trainable_scopes=("MobilenetV1/Logit5",))


def test_learning_rate_multipliers_scale_a_scope(make):
    options = {
        "optimizer": "sgd",
        "weight_decay": 0.0,
        "max_number_of_steps": 1,
        "learning_rate": 0.1,
    }
    current, train, _ = make(**options, learning_rate_multipliers=(("MobilenetV1/Conv2d_0/", 0.0),))
    before = checkpoints.values(current.trainee.model)
    train()
    after = checkpoints.values(current.trainee.model)
    still, moved = "MobilenetV1/Conv2d_0/weights", "MobilenetV1/Conv2d_1_pointwise/weights"
    assert np.array_equal(before[still], after[still])
    assert not np.array_equal(before[moved], after[moved])


def test_what_a_run_leaves_behind(make, tmp_path, monkeypatch):
    monkeypatch.setattr(summaries.RunLog, "plot", DRAWN)
    current, train, lines = make(log_every_n_steps=3)
    assert train() == 6
    left = {path.name.split(".out")[0] for path in (tmp_path / "run").iterdir()}
    assert left == {
        "checkpoint",
        "curves.png",
        "events",
        "history.csv",
        "model.ckpt-6.data-00000-of-00001",
        "model.ckpt-6.index",
    }
    shown = events(tmp_path / "run")
    weights = "MobilenetV1/Conv2d_0/weights"
    assert {weights, "activations/Conv2d_0", "sparsity/Conv2d_0", "inputs"} <= set(shown)
    assert [step for step, _ in shown[weights]] == [6]  # no more often than --save_summaries_secs
    assert [step for step, _ in shown["gradient_norm"]] == [1, 3, 6]
    assert [line.split("  ")[0] for line in lines if line.startswith("step")] == [
        "step 1/6",
        "step 3/6",
        "step 6/6",
    ]


def test_a_signal_ends_the_run_with_a_checkpoint(make, tmp_path):
    current, train, lines = make(max_number_of_steps=None, log_every_n_steps=1)
    original = current._say

    def kill_at_step_three(line):
        original(line)
        if line.startswith("step 3"):
            os.kill(os.getpid(), signal.SIGINT)

    current._say = kill_at_step_three
    reached = train()
    assert reached in (3, 4)
    assert f"Stopped by SIGINT at step {reached}" in lines[-1]
    assert checkpoints.latest(str(tmp_path / "run")).endswith(f"model.ckpt-{reached}")


def test_where_a_run_ends():
    def last_step(steps, epochs):
        return LengthOptions(max_number_of_steps=steps, num_epochs=epochs).last_step(100, 10)

    assert last_step(None, None) is None
    assert last_step(50, None) == 50
    assert last_step(50, 2.05) == 21
    assert last_step(5, 2.0) == 5
    # Of 200 examples 5 steps of 20 took a half: the rest takes 10 steps of 10.
    epochs = LengthOptions(num_epochs=2.0)
    assert epochs.last_step(100, 10, step=5, examples=100) == 15
    assert epochs.last_step(100, 10, step=7, examples=70) == 20


def test_batch_norm_is_recalibrated_after_a_run_that_ended(make, tmp_path):
    options = {"moving_average_decay": 0.9, "max_number_of_steps": 3}
    current, train, lines = make(**options)
    train()
    assert any("Add --batch_norm_decay=0.5" in line for line in lines)
    assert any(line.startswith("Batch norm: of the same 8 training images") for line in lines)
    before = values_at(tmp_path / "run")
    # Also where fewer steps are asked for than the run has taken.
    current, train, lines = make(**options | {"max_number_of_steps": 2}, recalibrate_batch_norm=2)
    assert train() == 3
    after = values_at(tmp_path / "run")
    changed = {name for name in before if (before[name] != after[name]).any()}
    statistics = [name for name in before if "/BatchNorm/moving_" in name]
    # The averages have statistics of their own, since they are other weights.
    assert changed == set(statistics) and len(statistics) == 2 * 2 * 3
    layer = "MobilenetV1/Conv2d_1_pointwise/BatchNorm/moving_mean"
    assert (after[layer] != after[f"{layer}/ExponentialMovingAverage"]).any()


def test_there_must_be_a_batch_norm_to_recalibrate(make):
    with pytest.raises(ValueError, match="--recalibrate_batch_norm=2: there is no batch norm"):
        make(trainable_scopes=("MobilenetV1/Logits",), recalibrate_batch_norm=2)


def test_sizes_and_scopes_change_within_a_run_and_across_its_parts(make, tmp_path):
    shared = {
        "progressive_resizing": ((16, 0), (32, 4)),
        "trainable_scopes": ("MobilenetV1/Logits",),
        "unfreeze": ((2, "MobilenetV1/Conv2d_1"),),
        "optimizer": "momentum",
    }
    _, train, lines = make(train_dir=str(tmp_path / "whole"), **shared)
    assert train() == 6
    assert "--unfreeze: MobilenetV1/Conv2d_1 catches 6 variables." in lines
    assert "Step 4: from here on images of 32 pixels." in lines
    assert any("Feature cache" in line for line in lines) is False
    for last_step in (2, 3, 4, 6):  # on both boundaries and between them
        _, train, _ = make(
            train_dir=str(tmp_path / "parts"), max_number_of_steps=last_step, **shared
        )
        assert train() == last_step
    whole, parts = values_at(tmp_path / "whole"), values_at(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)
    first = values_at(tmp_path / "whole" / "model.ckpt-2")
    moved = {name for name in first if (first[name] != whole[name]).any()}
    thawed = "MobilenetV1/Conv2d_1_pointwise/weights"
    assert thawed in moved and "MobilenetV1/Conv2d_0/weights" not in moved
    assert f"{thawed}/Momentum" in whole and f"{thawed}/Momentum" not in first


def test_the_best_checkpoint_is_kept_apart_and_patience_ends(make, tmp_path):
    accuracies = iter([0.5, 0.7, 0.6, 0.7, 0.9])
    seen = []

    def evaluate(model, stopped):
        seen.append(model.get_layer("MobilenetV1.Logits.Conv2d_1c_1x1").get_weights()[0])
        return {"Accuracy": next(accuracies), "Recall_5": 1.0, "loss": 2.0}

    options = {"evaluate": evaluate, "eval_every_n_steps": 2, "early_stopping_patience": 2}
    _, train, lines = make(**options, max_number_of_steps=6, moving_average_decay=0.9)
    assert train() == 6
    current, train, lines = make(**options, max_number_of_steps=20, moving_average_decay=0.9)
    assert train() == 8  # one evaluation without a better one came before the interruption
    assert any("Stopped by --early_stopping_patience=2 at step 8" in line for line in lines)
    assert current.ending is Ending.EARLY_STOPPING
    assert (current.best.step, current.best.accuracy) == (4, 0.7)
    # The same command has nothing left to do, with more patience it has.
    assert (
        make(**options, max_number_of_steps=20, moving_average_decay=0.9)[0].ended
        is Ending.EARLY_STOPPING
    )
    more = options | {"early_stopping_patience": 3}
    assert make(**more, max_number_of_steps=20, moving_average_decay=0.9)[0].ended is None
    best = values_at(tmp_path / "run" / "best")
    assert best["global_step"] == 4
    weights = "MobilenetV1/Logits/Conv2d_1c_1x1/weights"
    # What is evaluated are the averages.
    np.testing.assert_array_equal(seen[1], best[f"{weights}/ExponentialMovingAverage"])
    assert (best[weights] != seen[1]).any()
    history = (tmp_path / "run" / "history.csv").read_text()
    assert "eval_accuracy" in history.splitlines()[0]


def test_a_loss_that_is_not_finite_names_step_and_gradients(make, tmp_path):
    _, train, _ = make(spoilt=nan_at(4), max_number_of_steps=9)
    with pytest.raises(ValueError, match=r"loss became nan at step 5; largest gradients: Mobile.*"):
        train()
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_a_run_rolls_back_to_its_last_checkpoint_and_passes_the_bad_batch(
    make, tmp_path, three_steps
):
    shutil.copytree(three_steps, tmp_path / "run")
    options = {"on_nan": "rollback", "log_every_n_steps": 2, "spoilt": nan_at(4)}
    _, train, lines = make(max_number_of_steps=6, **options)
    assert train() == 6
    (line,) = [line for line in lines if "Rolled back to" in line]
    assert "at step 5" in line and "model.ckpt-3" in line
    values = values_at(tmp_path / "run")
    assert all(np.isfinite(value).all() for value in values.values())
    assert values["run_state/examples"] == 8 * (5 + 3)
    _, train, _ = make(max_number_of_steps=20, **options | {"spoilt": nan_at(*range(8, 30))})
    with pytest.raises(ValueError, match="The last checkpoint is untouched: .*model.ckpt-6"):
        train()


def test_an_auxiliary_head_that_fits_no_smaller_image_rests(tmp_path):
    options = options_of(
        train_dir=str(tmp_path), progressive_resizing=((75, 0), (107, 5)), batch_size=2
    )
    first, second = phases.plan(107, (), options.batch.progressive_resizing)
    lines = []
    net = NetConfig("inception_v3", 3, 107)
    learner = trainee.Trainee(options, net, distribution.create(), first, lines.append)
    assert "At 75 pixels the auxiliary head rests: it has weights for other sizes." in lines
    assert not any("AuxLogits" in name for name in learner.trained)
    assert len(learner.learner.output) == 1
    learner.enter(second)
    assert any("AuxLogits" in name for name in learner.trained)
    assert learner.loss_names == ["main", "auxiliary"]
    assert any("AuxLogits" in name for name in learner.slots())


def test_what_is_more_than_memory_holds_is_one_line(make, monkeypatch):
    current, train, _ = make()

    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(current.step, "run", full)
    remedy = r"--batch_size=8: is more than .* Try --batch_size=4, with --gradient_accumulation_st"
    with pytest.raises(ValueError, match=remedy):
        train()
    monkeypatch.setattr(current.trainee, "split", True)
    monkeypatch.setattr(current.trainee, "features", full)
    with pytest.raises(ValueError, match=remedy):
        current.cache_features(None)


def test_only_a_gpu_has_images_finished_in_the_step(make, monkeypatch):
    current, _, _ = make(train_dir="none")
    assert not current.trainee.is_on_gpu
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [kind])
    assert current.trainee.is_on_gpu
    current.step.prepare_images(lambda images: images + 1)
    assert float(current.step.prepare(tf.constant(1.0))) == 2.0


@pytest.mark.parametrize(("mean", "kept"), [(0.9, 6), (0.1, 4)])
def test_an_average_of_checkpoints_is_kept_where_it_is_better(make, tmp_path, mean, kept):
    found = iter([0.2, 0.3, 0.25, mean])
    current, train, lines = make(
        eval_every_n_steps=2,
        average_checkpoints=3,
        evaluate=lambda model, stopped: {"Accuracy": next(found), "loss": 1.0},
    )
    train()
    folder = tmp_path / "run"
    name = "MobilenetV1/Conv2d_0/weights"
    values = [checkpoints.read(f"{folder}/model.ckpt-{step}").get(name) for step in (2, 4, 6)]
    best = checkpoints.read(checkpoints.latest(str(folder / "best")))
    assert checkpoints.global_step(best) == current.best.step == kept
    expected = np.mean(values, axis=0) if kept == 6 else values[1]
    np.testing.assert_allclose(best.get(name), expected, atol=1e-6)
    np.testing.assert_allclose(current.trainee.weights[name].numpy(), values[2], atol=1e-6)
    assert lines[-1].startswith(f"The average of 3 checkpoints has accuracy {mean:.4f}")


def test_a_run_goes_back_to_its_best_checkpoint_once(make, tmp_path):
    found = iter([0.9, 0.2, 0.3, 0.4, 0.5])
    options = {"eval_every_n_steps": 2, "keep_checkpoints": 1}
    options["evaluate"] = lambda model, stopped: {"Accuracy": next(found), "loss": 1.0}
    make(**options)[1]()
    current, train, lines = make(resume_from_best=True, max_number_of_steps=4, **options)
    assert current.first_step == 2 and any("best/model.ckpt-2" in line for line in lines)
    assert train() == 4
    again = make(resume_from_best=True, max_number_of_steps=4, **options)[0]
    assert again.first_step == 4 and again.ended is Ending.LAST_STEP


def test_without_a_best_checkpoint_there_is_none_to_go_back_to(make, tmp_path, three_steps):
    shutil.copytree(three_steps, tmp_path / "run")
    with pytest.raises(ValueError, match="keeps no best checkpoint"):
        make(resume_from_best=True)
