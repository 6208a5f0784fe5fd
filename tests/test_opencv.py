"""OpenCV's dnn reads the frozen graphs, as it reads those of TensorFlow 1."""

import keras
import numpy as np
import pytest

from nets import nets_factory, vgg
from serving import frozen_graph

cv2 = pytest.importorskip("cv2", reason='needs pip install ".[opencv]"')


@pytest.mark.parametrize(
    "name, size",
    [
        ("inception_v1", 64),
        ("inception_v3", 96),
        ("resnet_v1_50", 64),
        ("resnet_v2_50", 64),
        ("vgg_a", 224),
    ],
)
def test_opencv_reads_the_frozen_graph(name, size, tmp_path, monkeypatch):
    monkeypatch.setattr(vgg, "_WIDTHS", (8, 8, 8, 8, 8))  # half a gigabyte otherwise
    keras.utils.set_random_seed(0)
    net, model = nets_factory.get(name), nets_factory.build(name, 5, size)
    random = np.random.default_rng(0)
    for variable in model.weights:  # not those of a fresh batch norm, which fold to nothing
        if "moving_variance" in variable.path:
            variable.assign(random.uniform(0.5, 2, variable.shape))
        elif "moving_mean" in variable.path or "beta" in variable.path:
            variable.assign(random.normal(0, 0.1, variable.shape))
    nodes = frozen_graph.Nodes(net.logits_node, net.predictions_node or "probabilities")
    path = str(tmp_path / "frozen_graph.pb")
    frozen_graph.write(path, frozen_graph.forward(model, nodes), nodes)

    image = random.uniform(-1, 1, (1, size, size, 3)).astype(np.float32)
    read = cv2.dnn.readNetFromTensorflow(path)
    read.setInput(np.ascontiguousarray(image.transpose(0, 3, 1, 2)), frozen_graph.INPUT_NODE)
    found = read.forward().reshape(1, 5)
    expected = keras.ops.softmax(model(image, training=False)["logits"]).numpy()
    assert np.ptp(expected) > 1e-5
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
