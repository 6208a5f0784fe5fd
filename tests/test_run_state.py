import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from nets import checkpoints, nets_factory, slim_names
from training import moving_averages, optimizers, run_state
from training.options import OptimizerOptions

TF_SLIM_RUN = pathlib.Path(__file__).parent / "fixtures/slim_parity/checkpoints/train_dir"


def make_run(train_dir, optimizer="rmsprop", averages=True, **options):
    model = nets_factory.build("mobilenet_v1_025", 5, 32)
    weights = slim_names.variables(model)
    trained = {name: variable for name, variable in weights.items() if variable.trainable}
    updates = optimizers.create(OptimizerOptions(optimizer=optimizer))
    updates.build(list(trained.values()), list(trained))
    slots = updates.slots()
    if averages:
        values = {name: variable.value for name, variable in weights.items()}
        slots |= moving_averages.MovingAverages(0.99, values).slots()
    step = tf.Variable(0, dtype=tf.int64)
    return run_state.RunState(str(train_dir), model, step, slots, **options), model, slots, step


def test_everything_comes_back(tmp_path):
    state, model, slots, step = make_run(tmp_path)
    rng = np.random.default_rng(1)
    for variable in [*slots.values(), *model.weights]:
        variable.assign(rng.uniform(size=variable.shape).astype("float32"))
    step.assign(7)
    prefix = state.save(run_state.Position(7, 56))
    assert prefix == str(tmp_path / "model.ckpt-7")

    other, other_model, other_slots, other_step = make_run(tmp_path)
    assert other.restore(
        checkpoints.latest(str(tmp_path)), images_per_step=99
    ) == run_state.Position(7, 56)
    assert int(other_step) == 7
    for name, value in checkpoints.values(model).items():
        np.testing.assert_array_equal(checkpoints.values(other_model)[name], value)
    for name, variable in slots.items():
        np.testing.assert_array_equal(other_slots[name], variable)


def test_a_run_of_tf_slim_itself_is_carried_on(tmp_path):
    state, model, slots, step = make_run(tmp_path)
    assert state.restore(
        checkpoints.latest(str(TF_SLIM_RUN)), images_per_step=8
    ) == run_state.Position(3, 24)
    assert int(step) == 3
    reader = checkpoints.read(str(TF_SLIM_RUN))
    name = "MobilenetV1/Conv2d_0/weights/RMSProp"
    np.testing.assert_array_equal(slots[name], reader.get(name))


def test_another_optimizer_is_refused_and_changes_nothing(tmp_path):
    make_run(tmp_path, optimizer="momentum", averages=False)[0].save(run_state.Position(0, 0))
    state, model, _, _ = make_run(tmp_path, averages=False)
    before = checkpoints.values(model)
    with pytest.raises(ValueError, match="RMSProp.*another --optimizer"):
        state.restore(checkpoints.latest(str(tmp_path)), 8)
    for name, value in checkpoints.values(model).items():
        np.testing.assert_array_equal(before[name], value)


def test_only_the_newest_checkpoints_stay(tmp_path):
    state, _, _, step = make_run(tmp_path, averages=False, keep_checkpoints=2)
    for n in (1, 2, 3):
        step.assign(n)
        state.save(run_state.Position(n, n))
    assert sorted(p.name for p in tmp_path.glob("*.index")) == [
        "model.ckpt-2.index",
        "model.ckpt-3.index",
    ]


def test_weights_that_are_not_numbers_are_not_saved(tmp_path):
    state, model, _, _ = make_run(tmp_path, averages=False)
    model.weights[0].assign(model.weights[0] * float("nan"))
    with pytest.raises(ValueError, match="Conv2d_0/weights and 0 more hold such numbers"):
        state.save(run_state.Position(0, 0))
    assert list(tmp_path.iterdir()) == []


def test_one_checkpoint_stays_for_each_so_many_hours(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(run_state.time, "time", lambda: now[0])
    state, _, _, step = make_run(
        tmp_path, "sgd", averages=False, keep_checkpoints=1, keep_every_n_hours=1
    )
    for number in range(1, 9):
        now[0] += 1800
        step.assign(number)
        prefix = state.save(run_state.Position(number, 0))
        os.utime(f"{prefix}.index", (now[0], now[0]))
    kept = sorted(path.stem for path in tmp_path.glob("*.index"))
    assert kept == ["model.ckpt-3", "model.ckpt-5", "model.ckpt-7", "model.ckpt-8"]
    assert checkpoints.latest(str(tmp_path)).endswith("model.ckpt-8")


def test_a_checkpoint_kept_apart_is_alone_there(tmp_path):
    state, _, _, step = make_run(tmp_path, "sgd", averages=False)
    for number in (1, 2):
        step.assign(number)
        state.save(run_state.Position(number, 0), apart=str(tmp_path / "best"))
    assert [path.stem for path in (tmp_path / "best").glob("*.index")] == ["model.ckpt-2"]
    assert checkpoints.latest(str(tmp_path)) is None
