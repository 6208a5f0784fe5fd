import contextlib
import json
import os
import pathlib
import re
import shutil
import sys
import tarfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from foundation.errors import InputError
from nets import checkpoints, nets_factory, slim_names
from tests.fixtures.slim_parity import weights
from tests.forked import run_script

SLIM = pathlib.Path(__file__).parent / "fixtures" / "slim_parity" / "checkpoints"
EXPECTED = json.loads((SLIM / "expected.json").read_text())
ZOO = "mobilenet_v1_0.25_128.ckpt"
HEAD = "MobilenetV1/Logits/Conv2d_1c_1x1/"
STEM = "MobilenetV1/Conv2d_0/weights"


def net(num_classes):
    return nets_factory.build("mobilenet_v1_025", num_classes, 128)


@pytest.fixture
def small_net():
    return net(5)


@pytest.fixture(scope="module")
def zoo_net():
    return net(1001)


@pytest.fixture(scope="module")
def images():
    return weights.input_images(128)


@pytest.fixture
def train_dir(tmp_path):
    return shutil.copytree(SLIM / "train_dir", tmp_path / "train_dir")


def assert_logits(model, images, expected):
    logits = model(images)["logits"].numpy()[:, : len(expected[0])]
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()


def assert_untouched(model, before):
    for name, value in checkpoints.values(model).items():
        np.testing.assert_array_equal(value, before[name])


# Reading what TF-Slim wrote


@pytest.mark.parametrize("averages", [False, True])
def test_a_train_dir_of_tf_slim_gives_its_logits(small_net, images, averages):
    expected = EXPECTED["train_dir (5 classes, model.ckpt-3)"]
    report = checkpoints.restore(small_net, str(SLIM / "train_dir"), use_moving_averages=averages)
    assert_logits(
        small_net, images, expected["logits_with_moving_averages" if averages else "logits"]
    )
    assert len(report.restored) == 137
    assert report.restored[STEM] == STEM + ("/ExponentialMovingAverage" if averages else "")
    assert "83 RMSProp, 83 RMSProp_1, global_step" in str(report)


def zip_of(folder, tmp_path):
    archive = tmp_path / "mobilenet_v1_0.25_128.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        (tmp_path / "readme.txt").write_text("not a checkpoint")
        tar.add(tmp_path / "readme.txt", "./readme.txt")
        for file in folder.iterdir():
            tar.add(file, f"./some/folder/{file.name}")
    return archive


@pytest.mark.parametrize(
    "path",
    [
        lambda _: SLIM / "zoo_v1",
        lambda _: SLIM / "zoo_v1" / ZOO,
        lambda _: SLIM / "zoo_v2",
        lambda _: SLIM / "zoo_v2" / ZOO,
        lambda _: SLIM / "zoo_v2" / f"{ZOO}.index",
        lambda _: SLIM / "zoo_v2" / f"{ZOO}.data-00000-of-00001",
        lambda tmp_path: zip_of(SLIM / "zoo_v1", tmp_path),
        lambda tmp_path: zip_of(SLIM / "zoo_v2", tmp_path),
    ],
    ids=["v1 folder", "v1", "v2 folder", "v2", "index", "data", "v1 archive", "v2 archive"],
)
def test_a_zoo_checkpoint_gives_its_logits(zoo_net, images, tmp_path, path):
    for variable in zoo_net.weights:
        variable.assign(tf.zeros_like(variable))
    report = checkpoints.restore(zoo_net, str(path(tmp_path)))
    assert_logits(zoo_net, images, EXPECTED["zoo_v1 and zoo_v2 (1001 classes)"]["logits_first5"])
    assert not report.unused


def test_a_reader_lists_names_shapes_and_types():
    reader = checkpoints.read(str(SLIM / "train_dir"))
    assert reader.names == sorted(EXPECTED["variables in train_dir"])
    assert reader.shapes[STEM] == (3, 3, 3, 8)
    assert (reader.dtypes[STEM], reader.dtypes["global_step"]) == ("float32", "int64")
    assert reader.get("global_step") == 3
    with pytest.raises(ValueError, match="model.ckpt-3: has no NoSuchThing"):
        reader.get("NoSuchThing")


# Which checkpoint a path stands for


def test_a_state_file_with_foreign_paths_finds_the_file_beside_it(train_dir):
    assert "/home/somebody" in (train_dir / "checkpoint").read_text()
    assert checkpoints.latest(str(train_dir)) == str(train_dir / "model.ckpt-3")


def test_windows_paths_in_a_state_file(train_dir):
    (train_dir / "checkpoint").write_text(r'model_checkpoint_path: "C:\\runs\\model.ckpt-3"')
    assert checkpoints.latest(str(train_dir)) == str(train_dir / "model.ckpt-3")


@pytest.mark.parametrize("state", ["", "no proto at all {", "\x00\xff\x17"])
def test_without_a_usable_state_file_the_highest_step_counts(train_dir, state):
    (train_dir / "checkpoint").write_bytes(state.encode("latin-1"))
    for ending in (".index", ".data-00000-of-00001"):
        shutil.copy(train_dir / f"model.ckpt-3{ending}", train_dir / f"model.ckpt-20{ending}")
    (train_dir / "model.ckpt-30.partial.index").write_bytes(b"")
    assert checkpoints.latest(str(train_dir)) == str(train_dir / "model.ckpt-20")


def test_a_state_file_that_names_a_deleted_checkpoint_falls_back_to_those_left(train_dir):
    with open(train_dir / "checkpoint", "w") as file:
        file.write('model_checkpoint_path: "model.ckpt-9"\n')
        file.write('all_model_checkpoint_paths: "model.ckpt-3"\n')
        file.write('all_model_checkpoint_paths: "model.ckpt-9"\n')
    assert checkpoints.latest(str(train_dir)) == str(train_dir / "model.ckpt-3")


def test_several_unnumbered_checkpoints_are_ambiguous(tmp_path):
    for name in ("a.ckpt", "b.ckpt"):
        shutil.copy(SLIM / "zoo_v1" / ZOO, tmp_path / name)
    with pytest.raises(ValueError, match=r"several checkpoints .* Name one of a\.ckpt, b\.ckpt"):
        checkpoints.latest(str(tmp_path))


def test_nothing_is_none_to_latest_and_an_error_to_read(tmp_path):
    assert checkpoints.latest(str(tmp_path)) is None
    assert checkpoints.latest(str(tmp_path / "nowhere")) is None
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "nowhere.tar.gz"):
        with pytest.raises(ValueError, match="no checkpoint there"):
            checkpoints.read(str(path))


@pytest.mark.parametrize("name", ["checkpoint", "model.ckpt-3.meta", "model.ckpt-3.index"])
def test_a_file_of_a_checkpoint_means_the_checkpoint(train_dir, name):
    (train_dir / "model.ckpt-3.meta").write_bytes(b"a graph")
    assert checkpoints.read(str(train_dir / name)).path == str(train_dir / "model.ckpt-3")


def test_the_state_file_of_the_working_directory(train_dir, monkeypatch):
    monkeypatch.chdir(train_dir)
    assert checkpoints.read("checkpoint").get("global_step") == 3


def test_a_meta_file_alone_names_the_file_that_is_missing(tmp_path):
    (tmp_path / "model.ckpt-3.meta").write_bytes(b"a graph")
    with pytest.raises(
        InputError, match=r"no checkpoint there\. .*model\.ckpt-3\.index is missing"
    ):
        checkpoints.read(str(tmp_path / "model.ckpt-3.meta"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("frozen_graph.pb", "frozen_graph.pb is a frozen graph"),
        ("saved_model.pb", "saved_model.pb is the graph of a SavedModel"),
        ("model.tflite", "a TFLite model"),
        (".", "an exported model"),
    ],
)
def test_an_exported_model_is_named_as_one(tmp_path, name, kind):
    for file in ("frozen_graph.pb", "saved_model.pb", "model.tflite", "export.json"):
        (tmp_path / file).write_bytes(b"\x0a\x10")
    with pytest.raises(InputError, match=f"{kind}, not a checkpoint.* classify_image.py --model"):
        checkpoints.read(str(tmp_path / name))


def test_an_export_inside_of_a_train_dir_hides_no_checkpoint(train_dir):
    (train_dir / "export.json").write_text("{}")
    assert checkpoints.read(str(train_dir)).path == str(train_dir / "model.ckpt-3")


# Fitting a checkpoint to a model


def test_a_head_of_another_size_is_answered_with_the_flag_to_add(small_net):
    before = checkpoints.values(small_net)
    with pytest.raises(
        ValueError,
        match=r"Conv2d_1c_1x1/biases is \[1001\], the model's is \[5\]\. "
        r"Remedy: for another number of classes add "
        r"--checkpoint_exclude_scopes=MobilenetV1/Logits\.$",
    ):
        checkpoints.restore(small_net, str(SLIM / "zoo_v2"))
    assert_untouched(small_net, before)


def test_the_flag_names_both_heads_of_inception_v3(tmp_path):
    values = {
        f"InceptionV3/{name}": np.zeros(shape, "float32")
        for name, shape in (
            ("Conv2d_1a_3x3/weights", (3, 3, 3, 32)),
            ("Logits/Conv2d_1c_1x1/weights", (1, 1, 2048, 1001)),
            ("Logits/Conv2d_1c_1x1/biases", (1001,)),
            ("AuxLogits/Conv2d_2a_5x5/weights", (5, 5, 128, 768)),
            ("AuxLogits/Conv2d_2b_1x1/weights", (1, 1, 768, 1001)),
        )
    }
    other_size = {name: (shape.shape[:-1] + (5,)) for name, shape in values.items()}
    report = checkpoints.Report(
        "inception_v3.ckpt",
        restored={"InceptionV3/Conv2d_1a_3x3/weights": "InceptionV3/Conv2d_1a_3x3/weights"},
        excluded={},
        # At 250 pixels TF-Slim names and shapes this layer otherwise.
        missing=["InceptionV3/AuxLogits/Conv2d_2a_3x3/weights"],
        other_shape={
            name: (value.shape, other_size[name])
            for name, value in values.items()
            if "Logits/Conv2d_1c" in name or "2b_1x1" in name
        },
        other_type={},
        unused=["InceptionV3/AuxLogits/Conv2d_2a_5x5/weights"],
    )
    assert report.problem().endswith(
        "Remedy: for another number of classes add "
        "--checkpoint_exclude_scopes=InceptionV3/Logits,InceptionV3/AuxLogits."
    )


def test_excluded_scopes_keep_their_values(small_net, images):
    before = checkpoints.values(small_net)
    report = checkpoints.restore(small_net, str(SLIM / "zoo_v1"), exclude=["MobilenetV1/Logits"])
    after = checkpoints.values(small_net)
    assert report.excluded == {"MobilenetV1/Logits": [HEAD + "weights", HEAD + "biases"]}
    assert len(report.restored) == 135
    np.testing.assert_array_equal(after[HEAD + "weights"], before[HEAD + "weights"])
    assert (after[STEM] != before[STEM]).any()
    assert "135 variables restored, 2 excluded, 0 missing, 0 of another shape, 0 in the" in str(
        report
    )
    assert f"excluded by MobilenetV1/Logits (2): {HEAD}weights, {HEAD}biases" in str(report)


def test_an_exclude_scope_that_catches_nothing_is_refused(small_net):
    before = checkpoints.values(small_net)
    with pytest.raises(ValueError, match="no variable in MobilenetV1/Logitz.*MobilenetV1/Logits"):
        checkpoints.restore(small_net, str(SLIM / "zoo_v1"), exclude=["MobilenetV1/Logitz"])
    assert_untouched(small_net, before)


def test_a_checkpoint_of_another_width_or_net(zoo_net):
    half = nets_factory.build("mobilenet_v1_050", 1001, 32)
    with pytest.raises(ValueError, match=r"\[3, 3, 3, 8\], the model's is \[3, 3, 3, 16\].*width"):
        checkpoints.restore(half, str(SLIM / "zoo_v1"))
    lenet = nets_factory.build("lenet", 5)
    with pytest.raises(
        ValueError, match=r"holds no variable of the model \(there: MobilenetV1; wanted: LeNet/"
    ):
        checkpoints.restore(lenet, str(SLIM / "zoo_v1"))


def test_averages_that_are_not_there(zoo_net):
    with pytest.raises(ValueError, match="holds no moving averages .*--moving_average_decay"):
        checkpoints.restore(zoo_net, str(SLIM / "zoo_v2"), use_moving_averages=True)


def written(tmp_path, model, change):
    values = {name: value.copy() for name, value in checkpoints.values(model).items()}
    change(values)
    checkpoints.write(str(tmp_path / "model.ckpt-1"), values)
    return str(tmp_path)


def test_missing_variables_are_an_error_unless_ignored(small_net, tmp_path):
    def change(values):
        values[STEM] += 1
        del values[HEAD + "biases"], values["MobilenetV1/Conv2d_0/BatchNorm/gamma"]

    path = written(tmp_path, small_net, change)
    before = checkpoints.values(small_net)
    with pytest.raises(
        ValueError,
        match="not in the checkpoint: .*BatchNorm/gamma, .*biases. .*--ignore_missing_vars",
    ):
        checkpoints.restore(small_net, path)
    assert_untouched(small_net, before)
    report = checkpoints.restore(small_net, path, ignore_missing=True)
    assert len(report.missing) == 2
    np.testing.assert_array_equal(checkpoints.values(small_net)[STEM], before[STEM] + 1)


def test_a_plan_changes_nothing(small_net):
    before = checkpoints.values(small_net)
    report = checkpoints.plan(small_net, checkpoints.read(str(SLIM / "zoo_v1")))
    assert report.other_shape[HEAD + "biases"] == ((1001,), (5,))
    assert f"other shape: {HEAD}biases, [1001] there, [5] here" in str(report)
    assert_untouched(small_net, before)


# Damaged files


def nan(values):
    values[HEAD + "biases"][3] = np.nan


def half(values):
    values[STEM] = values[STEM].astype("float16")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nan, r"NaN or infinite numbers in .*biases\. .*Choose an earlier checkpoint"),
        (half, r"not stored in the model's type: .*Conv2d_0/weights is float16.*float32 first"),
    ],
)
def test_numbers_of_no_use_leave_the_net_as_it_was(small_net, tmp_path, change, message):
    def change_all(values):
        values[STEM] += 1
        change(values)

    path = written(tmp_path, small_net, change_all)
    before = checkpoints.values(small_net)
    with pytest.raises(ValueError, match=message) as error:
        checkpoints.restore(small_net, path)
    assert "\n" not in str(error.value)
    assert_untouched(small_net, before)


DATA = "model.ckpt-3.data-00000-of-00001"
INDEX = "model.ckpt-3.index"


def damage(file, start, stop=None, by=None):
    def apply(folder):
        content = bytearray((folder / file).read_bytes())
        if by is None:
            content = content[start:stop]
        else:
            content[start:stop] = by
        (folder / file).write_bytes(bytes(content))

    return apply


@pytest.mark.parametrize(
    "apply",
    [
        damage(DATA, 0, 1000),
        damage(DATA, 0, 0),
        damage(DATA, 0, 4, by=b"oops"),
        damage(INDEX, 0, 9000),
        damage(INDEX, 0, 0),
        damage(INDEX, 40, 60, by=b"x" * 20),
        lambda folder: (folder / DATA).unlink(),
        lambda folder: (folder / INDEX).write_text("<html>404</html>" * 50),
    ],
    ids=["short", "empty", "bits", "short index", "empty index", "index bits", "no data", "html"],
)
def test_a_damaged_checkpoint_is_one_clear_line(small_net, train_dir, apply):
    apply(train_dir)
    before = checkpoints.values(small_net)
    with pytest.raises(
        ValueError, match=r"model\.ckpt-3: not a checkpoint, or a damaged one \(.*again"
    ) as error:
        checkpoints.restore(small_net, str(train_dir))
    assert "\n" not in str(error.value)
    assert_untouched(small_net, before)


@pytest.mark.parametrize(
    ("apply", "reason"),
    [
        (damage(DATA, 0, 1000), f"{DATA}: it is cut short"),
        (lambda folder: (folder / DATA).unlink(), f"{DATA}: it is missing"),
        (damage(INDEX, 0, 9000), f"{INDEX}: "),
    ],
    ids=["short", "no data", "short index"],
)
def test_the_file_that_is_damaged_is_named(small_net, train_dir, apply, reason):
    apply(train_dir)
    with pytest.raises(InputError, match=re.escape(f"({reason}")):
        checkpoints.restore(small_net, str(train_dir))


def test_a_missing_shard_of_several_is_named(train_dir):
    (train_dir / DATA).rename(train_dir / "model.ckpt-3.data-00000-of-00002")
    with pytest.raises(InputError, match=r"\(model\.ckpt-3\.data-00001-of-00002: it is missing"):
        checkpoints.read(str(train_dir)).get(STEM)


def test_a_damaged_last_checkpoint_names_the_one_before_it(small_net, tmp_path):
    for step in (3, 6):
        checkpoints.write(str(tmp_path / f"model.ckpt-{step}"), checkpoints.values(small_net))
    damage("model.ckpt-6.data-00000-of-00001", 0, 1000)(tmp_path)
    for _ in ("with and", "without the state file"):
        with pytest.raises(ValueError, match=r"Remove model\.ckpt-6\.\* .*: model\.ckpt-3 takes"):
            checkpoints.restore(small_net, str(tmp_path))
        (tmp_path / "checkpoint").unlink(missing_ok=True)
    for file in tmp_path.glob("model.ckpt-6.*"):
        file.unlink()
    assert checkpoints.restore(small_net, str(tmp_path)).path.endswith("model.ckpt-3")


def test_data_without_an_index_is_no_checkpoint(train_dir):
    (train_dir / INDEX).unlink()
    with pytest.raises(ValueError, match="no checkpoint there"):
        checkpoints.read(str(train_dir / "model.ckpt-3"))


@pytest.mark.parametrize("content", [b"", b"just text\n" * 100, b"\x00" * 5000])
def test_a_file_that_is_no_v1_checkpoint(tmp_path, content):
    (tmp_path / "inception_v3.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"inception_v3\.ckpt: not a checkpoint, or a damaged"):
        checkpoints.read(str(tmp_path / "inception_v3.ckpt"))


def test_a_v1_checkpoint_that_broke_off(tmp_path):
    content = (SLIM / "zoo_v1" / ZOO).read_bytes()
    (tmp_path / ZOO).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="not a checkpoint, or a damaged one"):
        checkpoints.read(str(tmp_path / ZOO))


def test_an_archive_that_broke_off(tmp_path):
    archive = zip_of(SLIM / "zoo_v2", tmp_path)
    archive.write_bytes(archive.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r"\.tar\.gz: not a whole archive .* Download it again"):
        checkpoints.read(str(archive))


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    (tmp_path / "evil").write_text("not a checkpoint")
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "evil", "../../../escaped.ckpt")
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoints.read(str(tmp_path / "evil.tar.gz"))
    assert not list(tmp_path.parent.rglob("escaped.ckpt"))


# Assigning


def test_assign_is_all_or_nothing(small_net):
    before = checkpoints.values(small_net)
    good = {name: value + 1 for name, value in before.items()}
    bad = good | {HEAD + "biases": np.zeros(7), "Other/weights": np.zeros(1)}
    del bad[STEM]
    with pytest.raises(ValueError) as error:
        checkpoints.assign(small_net, bad)
    assert f"without a value: {STEM}" in str(error.value)
    assert "unknown to the model: Other/weights" in str(error.value)
    assert f"of another shape: {HEAD}biases [7] for [5]" in str(error.value)
    assert_untouched(small_net, before)
    checkpoints.assign(small_net, good)
    assert_untouched(small_net, good)
    checkpoints.assign(small_net, {STEM: before[STEM]}, partial=True)
    assert_untouched(small_net, good | {STEM: before[STEM]})


# Writing


def test_what_is_written_is_read_back(small_net, tmp_path):
    values = checkpoints.values(small_net) | {"global_step": np.int64(7)}
    checkpoints.write(str(tmp_path / "run" / "model.ckpt-7"), values)
    reader = checkpoints.read(str(tmp_path / "run"))
    assert reader.names == sorted(values)
    for name, value in values.items():
        np.testing.assert_array_equal(reader.get(name), value)
    assert sorted(os.listdir(tmp_path / "run")) == [
        "checkpoint",
        "model.ckpt-7.data-00000-of-00001",
        "model.ckpt-7.index",
    ]


def test_tensorflows_own_saver_reads_it(tmp_path):
    checkpoints.write(str(tmp_path / "model.ckpt-7"), {"a/weights": np.float32([1, 2])})
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model.ckpt-7")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        with tf.compat.v1.variable_scope("a"):
            variable = tf.compat.v1.get_variable("weights", (2,))
        tf.compat.v1.train.Saver().restore(session, str(tmp_path / "model.ckpt-7"))
        assert session.run(variable).tolist() == [1, 2]


def test_the_oldest_recorded_checkpoints_go(tmp_path):
    (tmp_path / "mine.index").write_text("of somebody else")
    for step in (1, 2, 3, 3):
        checkpoints.write(str(tmp_path / f"model.ckpt-{step}"), {"x": np.float32(step)}, keep=2)
    assert sorted(file.name for file in tmp_path.glob("*.index")) == [
        "mine.index",
        "model.ckpt-2.index",
        "model.ckpt-3.index",
    ]
    state = tf.train.get_checkpoint_state(str(tmp_path))
    assert [os.path.basename(path) for path in state.all_model_checkpoint_paths] == [
        "model.ckpt-2",
        "model.ckpt-3",
    ]
    assert str(tmp_path) not in (tmp_path / "checkpoint").read_text()


def test_keep_0_keeps_all(tmp_path):
    for step in range(4):
        checkpoints.write(str(tmp_path / f"model.ckpt-{step}"), {"x": np.float32(step)})
    assert len(list(tmp_path.glob("*.index"))) == 4


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """So that a loss of power leaves the earlier one, or this one, and no empty files."""
    done, replace, fsync = [], os.replace, os.fsync

    def settled(handle):
        done.append(("on the disk", os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))))
        fsync(handle)

    def named(source, target):
        done.append(("named", os.path.basename(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", settled)
    monkeypatch.setattr(os, "replace", named)
    checkpoints.write(str(tmp_path / "model.ckpt-1"), {"a": np.zeros(3, np.float32)})
    data, index = (f"model.ckpt-1{ending}" for ending in (".data-00000-of-00001", ".index"))
    partial = [name.replace("-1", "-1.partial", 1) for name in (data, index)]
    assert done == [
        *(("on the disk", name) for name in partial),
        *(("named", name) for name in (data, index)),
        ("on the disk", tmp_path.name),
        ("on the disk", f"checkpoint.{os.getpid()}.tmp"),
        ("named", "checkpoint"),
    ]


def test_a_writer_killed_at_any_file_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    prefix = str(tmp_path / "model.ckpt-")
    checkpoints.write(prefix + "1", {"x": np.float32(1)})
    real = os.replace

    class Killed(BaseException):
        pass

    def check(step):
        path = checkpoints.latest(str(tmp_path))
        assert path == f"{prefix}{step}"
        assert checkpoints.read(path).get("x") == step

    for survived in range(3):
        calls = iter(range(10))

        def replace(source, target, calls=calls, survived=survived):
            if next(calls) == survived:
                raise Killed
            real(source, target)

        monkeypatch.setattr(os, "replace", replace)
        with pytest.raises(Killed):
            checkpoints.write(prefix + "2", {"x": np.float32(2)})
        check(1)
    monkeypatch.setattr(os, "replace", real)
    checkpoints.write(prefix + "2", {"x": np.float32(2)})
    check(2)
    assert not list(tmp_path.glob("*.partial*"))


@pytest.mark.parametrize("survived", range(5))
def test_a_step_that_is_written_again_is_whole_before_and_after(tmp_path, monkeypatch, survived):
    prefix = str(tmp_path / "model.ckpt-2")
    checkpoints.write(prefix, {"x": np.float32(2), "global_step": np.int64(2)})
    real, calls = os.replace, iter(range(10))

    class Killed(BaseException):
        pass

    def replace(source, target):
        if next(calls) == survived:
            raise Killed
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    again = {"x": np.float32(3), "global_step": np.int64(2)}
    with contextlib.suppress(Killed):
        checkpoints.write(prefix, again)
    assert next(calls) > survived or survived == 4
    monkeypatch.setattr(os, "replace", real)
    reader = checkpoints.read(checkpoints.latest(str(tmp_path)))
    assert reader.get("x") in (2, 3) and checkpoints.global_step(reader) == 2
    checkpoints.write(prefix, again)
    assert checkpoints.latest(str(tmp_path)) == prefix
    assert checkpoints.read(prefix).get("x") == 3
    assert len(list(tmp_path.glob("*.index"))) == 1


def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        checkpoints.write(str(tmp_path / "file" / "model.ckpt-1"), {"x": np.float32(1)})


@pytest.mark.skipif(sys.platform != "linux", reason="limits file sizes by the shell's ulimit")
def test_a_full_disk_is_an_os_error_and_leaves_the_earlier_checkpoint(tmp_path):
    script = """
import resource, signal, sys
import keras
import numpy as np
from nets import checkpoints
prefix = sys.argv[1]
checkpoints.write(prefix + "1", {"x": np.float32(1)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoints.write(prefix + "2", {"x": np.zeros(1_000_000, "float32")})
except OSError as error:
    print("refused:", error)
"""
    prefix = str(tmp_path / "model.ckpt-")
    done = run_script("-c", script, prefix)
    refused = f"refused: {prefix}2: could not be written: the file would be larger than is allowed"
    assert refused in done.stdout, done.stderr
    assert "SaveV2" not in done.stdout
    assert checkpoints.latest(str(tmp_path)) == prefix + "1"


def test_values_are_under_slim_names(small_net):
    values = checkpoints.values(small_net)
    assert list(values) == list(slim_names.variables(small_net))
    assert {value.dtype.name for value in values.values()} == {"float32"}


def test_pruning_leaves_checkpoints_of_another_folder_alone(tmp_path):
    original, copy = tmp_path / "original", tmp_path / "copy"
    for step in (1, 2):
        checkpoints.write(str(original / f"model.ckpt-{step}"), {"v": np.float32(step)})
    copy.mkdir()
    # As TF-Slim wrote it: with absolute paths.
    paths = [f'all_model_checkpoint_paths: "{original}/model.ckpt-{step}"' for step in (1, 2)]
    lines = [f'model_checkpoint_path: "{original}/model.ckpt-2"', *paths]
    (copy / "checkpoint").write_text("\n".join(lines))
    checkpoints.write(str(copy / "model.ckpt-3"), {"v": np.float32(3)}, keep=1)
    checkpoints.write(str(copy / "model.ckpt-4"), {"v": np.float32(4)}, keep=1)
    assert checkpoints.latest(str(copy)) == str(copy / "model.ckpt-4")
    for step in (1, 2):
        assert (original / f"model.ckpt-{step}.index").exists()


def test_the_size_of_a_head_is_found_without_a_random_number(train_dir, monkeypatch):
    def drawn(*args, **options):
        raise AssertionError("an initializer was called")

    monkeypatch.setattr(keras.initializers.TruncatedNormal, "__call__", drawn)
    net, reader = nets_factory.get("mobilenet_v1_025"), checkpoints.read(str(train_dir))
    assert checkpoints.head_size(net, reader, 1001, 128, None) == 5
    assert checkpoints.head_size(net, reader, 5, 128, None) == 5


def test_a_folder_without_permission_is_an_os_error_that_names_it(tmp_path, monkeypatch):
    def refuse(**options):
        raise tf.errors.PermissionDeniedError(None, None, "{{node}} [Op:SaveV2]")

    monkeypatch.setattr(tf.raw_ops, "SaveV2", refuse)
    with pytest.raises(OSError, match=r"model\.ckpt-1: could not be written: no permission"):
        checkpoints.write(str(tmp_path / "model.ckpt-1"), {"x": np.float32(1)})
