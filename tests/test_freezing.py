"""Graphs of TF-Slim's own: frozen with a checkpoint, and opened without what an export brings."""

import os
import re

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from foundation.errors import InputError, UsageError
from foundation.options import changed, check
from nets import checkpoints, imagenet
from runs.freeze import freeze
from runs.options import ExportModelOptions
from serving import folding, freezing, frozen_graph, latency
from tests.conftest import run_script

v1 = tf.compat.v1
OUTPUT = "Net/Predictions/Reshape_1"


@pytest.fixture(autouse=True)
def few_seconds(monkeypatch):
    monkeypatch.setattr(latency, "_SECONDS", 0.0)


def build(use_resource):
    """What export_inference_graph.py wrote: a net and its variables, and no weights."""
    images = v1.placeholder(tf.float32, [None, 16, 16, 3], "input")
    with v1.variable_scope("Net", use_resource=use_resource), v1.device("/gpu:0"):
        draw = v1.random_normal_initializer(seed=1)
        filters = v1.get_variable("Conv2d_0/weights", [3, 3, 3, 4], initializer=draw)
        y = tf.nn.conv2d(images, filters, 2, "SAME")
        one = v1.random_uniform_initializer(0.5, 2, seed=2)
        moments = [
            v1.get_variable(f"Conv2d_0/BatchNorm/{name}", [4], initializer=one)
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        ]
        y, *_ = v1.nn.fused_batch_norm(y, *moments, is_training=False)
        head = v1.get_variable("Logits/weights", [4, 3], initializer=draw)
        logits = tf.matmul(tf.reduce_mean(tf.nn.relu(y), axis=[1, 2]), head, name="Logits/matmul")
        return tf.nn.softmax(logits, name="Predictions/Reshape_1")


@pytest.fixture(scope="module", params=[False, True], ids=["VariableV2", "VarHandleOp"])
def slim(request, tmp_path_factory):
    """A graph file, a checkpoint, images and what the net says of them."""
    place = tmp_path_factory.mktemp("slim")
    with tf.Graph().as_default() as graph:
        output = build(request.param)
        (place / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
        (place / "graph.pbtxt").write_text(text_format.MessageToString(graph.as_graph_def()))
        images = np.random.default_rng(0).normal(size=(5, 16, 16, 3)).astype(np.float32)
        config = v1.ConfigProto(allow_soft_placement=True)
        with v1.Session(graph=graph, config=config) as session:
            session.run(v1.global_variables_initializer())
            values = {v.op.name: session.run(v) for v in v1.global_variables()}
            expected = session.run(output, {"input:0": images})
    checkpoints.write(str(place / "model.ckpt-5"), {**values, "global_step": np.int64(5)})
    return place, images, expected


def options(place, **others):
    checkpoint = str(place / "model.ckpt-5")
    return changed(ExportModelOptions(), {"checkpoint_path": checkpoint, **others})


@pytest.mark.parametrize("graph", ["graph.pb", "graph.pbtxt"])
def test_a_graph_is_frozen_and_named(slim, tmp_path, graph):
    place, images, expected = slim
    said = []
    file = str(tmp_path / "frozen.pb")
    given = options(place, freeze_graph=str(place / graph), output_file=file)
    check(given)
    assert freeze(given, said.append) == file
    assert f"Graph nodes: input -> {OUTPUT}" in said
    (compared,) = (line for line in said if line.startswith("Compared with"))
    off = re.fullmatch(r".*graph\.pb(?:txt)? itself on 4 .*within (\S+) of the largest\.", compared)
    assert 0 <= float(off[1]) < 1e-5
    assert any(f"--input_layer=input --output_layer={OUTPUT} --image_size=16" in x for x in said)
    found = freezing.read(file)
    ops = {node.name: node.op for node in found.node}
    assert ops["Net/Conv2d_0/weights"] == "Const"
    assert not any("Variable" in op or "Norm" in op for op in ops.values())
    assert not any(node.device for node in found.node)
    for names in ({}, {"input_layer": "import/input", "output_layer": f"import/{OUTPUT}:0"}):
        net, shape = frozen_graph.load_foreign(file, **names)
        assert shape == (None, 16, 16, 3)
        answer = net(images)
        np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(answer["logits"], np.log(expected), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("slim", [False], ids=["VariableV2"], indirect=True)
def test_the_command_line_of_freeze_graph_still_works(slim, tmp_path):
    place, images, expected = slim
    file = str(tmp_path / "frozen.pb")
    done = run_script(
        "export_model.py",
        *(f"--input_graph={place}/graph.pb", f"--input_checkpoint={place}/model.ckpt-5"),
        *("--input_binary=true", f"--output_graph={file}", f"--output_node_names={OUTPUT}"),
    )
    assert done.returncode == 0, done.stderr
    assert f"Graph nodes: input -> {OUTPUT}" in done.stdout
    assert "deprecated" not in done.stderr
    found = frozen_graph.load_foreign(file)[0](images)["probabilities"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_logits_are_told_from_probabilities(slim, tmp_path):
    place, images, expected = slim
    file = str(tmp_path / "frozen.pb")
    given = options(
        place,
        freeze_graph=str(place / "graph.pb"),
        output_file=file,
        output_node_names=("Net/Logits/matmul",),
    )
    freeze(given, lambda line: None)
    answer = frozen_graph.load_foreign(file)[0](images)
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-4, atol=1e-5)
    assert (answer["logits"] < 0).any()
    with pytest.raises(InputError, match=r"--input_layer=image: .* no such node; its \d+ nodes go"):
        frozen_graph.load_foreign(file, "image")
    with pytest.raises(InputError, match=r"--output_layer: .* not a number for each class"):
        frozen_graph.load_foreign(file, None, "Net/Conv2d_0/weights")[0](images)
    with pytest.raises(InputError, match=r"without weights. Freeze it .* --freeze_graph=GRAPH"):
        frozen_graph.load_foreign(str(place / "graph.pb"))


def test_moving_averages_take_the_place_of_variables(slim, tmp_path):
    place, images, expected = slim
    reader = checkpoints.read(str(place / "model.ckpt-5"))
    values = {name: reader.get(name) for name in reader.names}
    averaged = {name + checkpoints.AVERAGE: value for name, value in values.items()}
    worse = {name: np.zeros_like(value) for name, value in values.items()}
    checkpoints.write(str(tmp_path / "model.ckpt-5"), {**worse, **averaged})
    file = str(tmp_path / "frozen.pb")
    given = options(
        tmp_path,
        freeze_graph=str(place / "graph.pb"),
        output_file=file,
        moving_average_decay=0.99,
    )
    freeze(given, lambda line: None)
    found = frozen_graph.load_foreign(file)[0](images)["probabilities"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda values: values.pop("Net/Logits/weights"), "lacks the graph's variable Net/Logits"),
        (
            lambda values: values.update({"Net/Logits/weights": np.zeros((4, 7), np.float32)}),
            r"has Net/Logits/weights as \[4, 7\], the graph as \(4, 3\)",
        ),
        (
            lambda values: values.update({"Net/Logits/weights": np.full((4, 3), np.nan, "f4")}),
            "gives no finite numbers",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_leaves_nothing(slim, tmp_path, change, message):
    place, *_ = slim
    reader = checkpoints.read(str(place / "model.ckpt-5"))
    values = {name: reader.get(name) for name in reader.names}
    change(values)
    checkpoints.write(str(tmp_path / "model.ckpt-5"), values)
    file = tmp_path / "out" / "frozen.pb"
    file.parent.mkdir()
    graph = str(place / "graph.pb")
    with pytest.raises(InputError, match=message):
        freeze(options(tmp_path, freeze_graph=graph, output_file=str(file)), lambda line: None)
    assert not list(file.parent.iterdir())
    (tmp_path / "page.pb").write_text("<html>")
    with pytest.raises(InputError, match=r"page\.pb is no graph"):
        freezing.read(str(tmp_path / "page.pb"))


def test_a_frozen_graph_of_other_numbers_is_refused(slim, tmp_path, monkeypatch):
    place, *_ = slim
    file = tmp_path / "out" / "frozen.pb"
    file.parent.mkdir()
    fold = folding.rewritten

    def wrong(graph_def, outputs):
        found = fold(graph_def, outputs)
        head = next(node for node in found.node if node.name == "Net/Logits/weights")
        value = tf.make_ndarray(head.attr["value"].tensor)
        head.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(1.01 * value))
        return found

    monkeypatch.setattr(folding, "rewritten", wrong)
    given = {"freeze_graph": str(place / "graph.pb"), "output_file": str(file)}
    with pytest.raises(InputError, match=r"numbers of the graph itself: logits off by 0\.0\d+ of"):
        freeze(options(place, **given), lambda line: None)
    assert not list(file.parent.iterdir())
    freeze(options(place, **given, allow_mismatch=True), lambda line: None)
    assert file.exists()


@pytest.mark.parametrize("slim", [False], ids=["VariableV2"], indirect=True)
def test_a_graph_that_is_frozen_already_gets_no_weights(slim, tmp_path):
    place, _, _ = slim
    files = [str(tmp_path / name) for name in ("once.pb", "twice.pb")]
    freeze(options(place, freeze_graph=str(place / "graph.pb"), output_file=files[0]), print)
    with pytest.raises(InputError, match=rf"no variables before {OUTPUT}: it is frozen already"):
        freeze(options(place, freeze_graph=files[0], output_file=files[1]), print)
    assert not os.path.exists(files[1])


def test_a_graph_that_is_not_there_is_named_with_its_flag(tmp_path):
    given = options(tmp_path, freeze_graph="x.pb", output_file=str(tmp_path / "frozen.pb"))
    with pytest.raises(InputError, match=r"--freeze_graph=x\.pb: there is no such file"):
        freeze(given, lambda line: None)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"freeze_graph": "g.pb", "output_dir": "x"}, "--freeze_graph needs --output_file"),
        ({"output_node_names": ("a",), "output_dir": "x"}, "--output_node_names needs --freeze"),
        (
            {"freeze_graph": "g.pb", "output_file": "x.pb", "dataset_dir": "x", "batch_size": 8},
            "--freeze_graph has no use for --batch_size, --dataset_dir: leave it out",
        ),
        ({"input_saver": "s", "output_dir": "x"}, "--input_saver=s: weights are read"),
    ],
)
def test_flags_of_freezing_that_make_no_sense(given, message):
    with pytest.raises(UsageError, match=message):
        check(changed(ExportModelOptions(), given))


def test_imagenets_outputs_have_names():
    names = imagenet.names(1000)
    assert len(set(names)) == 1000
    assert (names[0], names[1], names[207], names[999]) == (
        *("tench", "goldfish", "Golden Retriever"),
        "toilet paper",
    )
    assert imagenet.names(1001) == ("background", *names)
    assert imagenet.names(999) is None
