"""What an export is compared on, and what is refused."""

import dataclasses
import os

import numpy as np
import pytest

from foundation.errors import InputError
from serving import (
    comparison,
    frozen_graph,
)
from tests.exports.tiny import (
    decode,
    export_file,
    export_folder,
    snapshot,
)


@pytest.mark.parametrize(
    ("num_examples", "lost", "refused"),
    [(18, 3, False), (18, 4, True), (1000, 10, False), (1000, 11, True)],
)
def test_a_point_of_accuracy_or_what_chance_moves_may_be_lost(num_examples, lost, refused):
    right = num_examples - 4
    proof = comparison.Proof("int8", 0.9, (right - lost) / num_examples, 1, {})
    proofs = comparison.Proofs(right / num_examples, num_examples, {"onnx": proof}, {"onnx": 0.1})
    assert [("right, where" in str(error)) for error in proofs.mismatches] == [True] * refused


@pytest.mark.parametrize(
    "least, message",
    [(0.75, None), (0.8, r"exported frozen_graph has 75\.0 % .* the checkpoint 75\.0 %")],
)
def test_an_accuracy_can_be_demanded(subject, tmp_path, least, message):
    def attempt(subject):
        options = {"assert_accuracy_at_least": least}
        export_folder(str(tmp_path / "x"), subject, ["frozen_graph"], **options)

    if message is None:
        attempt(subject)
        return
    with pytest.raises(InputError, match=message):
        attempt(subject)
    with pytest.raises(InputError, match=r"no labelled pictures"):
        attempt(dataclasses.replace(subject, truth=None))
    assert os.listdir(tmp_path) == []


def test_int8_is_judged_by_the_middle_picture():
    rng = np.random.default_rng(0)
    expected = rng.normal(size=(64, 5))
    expected[7] *= 50  # calibration saw no such picture: its logits are cut off
    found = np.clip(expected, -4, 4) + rng.uniform(-0.1, 0.1, expected.shape)
    assert comparison.difference(found, expected, "int8") < 0.1
    assert comparison.difference(found, expected) > 0.9
    for wrong in (expected[:, ::-1], np.zeros_like(expected), expected * np.nan):
        assert not comparison.difference(wrong, expected, "int8") <= 0.9
    assert comparison.difference(expected[:, :4], expected, "int8") == np.inf


def damaged_frozen_graph(real):
    """Writes the graph as it is, then turns bits of one weight, as a failing disk would."""

    def write(path, *rest):
        real(path, *rest)
        graph_def = frozen_graph._read(path)
        constants = [node for node in graph_def.node if node.op == "Const"]
        node = max(constants, key=lambda n: len(n.attr["value"].tensor.tensor_content))
        weights = np.frombuffer(node.attr["value"].tensor.tensor_content, np.float32).copy()
        weights[: len(weights) // 2] *= -1
        node.attr["value"].tensor.tensor_content = weights.tobytes()
        with open(path, "wb") as file:
            file.write(graph_def.SerializeToString())

    return write


def test_a_damaged_export_is_refused_and_the_former_one_stays(subject, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    export_folder(str(folder), subject, ["frozen_graph"])
    before = snapshot(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(frozen_graph, "write", damaged_frozen_graph(frozen_graph.write))
        with pytest.raises(ValueError, match=r"exported frozen_graph does not give the checkpoint"):
            export_folder(str(folder), subject, ["frozen_graph"], overwrite=True)
        with pytest.raises(ValueError, match=r"Nothing was exported"):
            export_file(str(tmp_path / "alone.pb"), subject)
    assert snapshot(tmp_path) == before


def test_a_net_of_nan_is_refused(subject, tmp_path):
    broken = dataclasses.replace(subject, decode=lambda encoded: decode(encoded) * np.nan)
    with pytest.raises(ValueError, match=r"model\.ckpt-7: the model gives no finite numbers"):
        export_folder(str(tmp_path / "model"), broken, ["frozen_graph"])
    assert os.listdir(tmp_path) == []
