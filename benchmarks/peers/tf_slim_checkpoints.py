"""Checkpoints both ways between this project and TF-Slim, with the logits of each in the other.

python -m benchmarks.peers.tf_slim_checkpoints --peer_python=PEER/bin/python

PEER is an environment of Python 3.11 with tensorflow-cpu==2.12.1 and tf-slim==1.1.0. For each net:
weights drawn and saved here give TF-Slim's graph our logits; weights drawn and saved by TF-Slim, in
the formats V1 and V2, give our net its logits. The differences are relative to the largest logit.
"""

import argparse
import os
import subprocess
import sys
import tempfile

# (net, image size, outputs): the sizes that the nets were made for.
NETS = {"inception_v1": 224, "inception_v3": 299, "vgg_16": 224, "resnet_v1_50": 224}
NUM_CLASSES, NUM_IMAGES = 5, 2
TOLERANCE = 1e-4
PEER = os.path.join(os.path.dirname(__file__), "tf_slim_logits.py")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer_python", required=True, help="Python with TF-Slim")
    parser.add_argument("--model_names", nargs="+", default=list(NETS), choices=list(NETS))
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print("| net | ours in TF-Slim | TF-Slim's V1 here | TF-Slim's V2 here |")
    print("|---|---|---|---|", flush=True)
    worst = 0.0
    for name in args.model_names:
        with tempfile.TemporaryDirectory() as folder:
            differences = compare(name, args.peer_python, folder)
        print(f"| {name} |", " | ".join(f"{d:.1e}" for d in differences), "|", flush=True)
        worst = max(worst, *differences)
    if worst > TOLERANCE:
        sys.exit(f"A difference of {worst:.1e} is above {TOLERANCE:.0e}.")


def compare(name: str, peer_python: str, folder: str) -> list[float]:
    """max|a - b| / max|b| of ours in TF-Slim, of its V1 here, of its V2 here."""
    import numpy as np

    from nets import checkpoints, nets_factory

    def path(file: str) -> str:
        return os.path.join(folder, file)

    def peer(logits: str, *flags: str) -> np.ndarray:
        command = [peer_python, PEER, f"--model_name={name}", f"--num_classes={NUM_CLASSES}"]
        command += [f"--images={path('images.npy')}", f"--logits={path(logits)}", *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"TF-Slim failed on {name}:\n{done.stderr[-2000:]}")
        return np.load(path(logits))

    rng = np.random.default_rng(0)
    size = NETS[name]
    images = rng.uniform(-1, 1, (NUM_IMAGES, size, size, 3)).astype(np.float32)
    np.save(path("images.npy"), images)
    model = nets_factory.build(name, NUM_CLASSES)
    for variable in model.weights:  # biases and batch norms: as drawn, they say nothing
        if len(variable.shape) == 1:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))

    def ours() -> np.ndarray:
        return np.asarray(model(images, training=False)["logits"])

    checkpoints.write(path("ours/model.ckpt-1"), checkpoints.values(model))
    expected = ours()
    found = peer("ours.npy", f"--checkpoint={path('ours/model.ckpt-1')}")
    differences = [_difference(found, expected)]
    v1, v2 = path("v1.ckpt"), path("v2.ckpt")
    expected = peer("theirs.npy", f"--write_v1={v1}", f"--write_v2={v2}")
    for checkpoint in (v1, v2):
        checkpoints.assign(model, {n: v * 0 for n, v in checkpoints.values(model).items()})
        # PyPI's TF-Slim has no variables that ours lacks, and the reverse.
        report = checkpoints.restore(model, checkpoint)
        if report.unused:
            sys.exit(f"{name}: TF-Slim's checkpoint has {report.unused} besides.")
        differences.append(_difference(ours(), expected))
    return differences


def _difference(found, expected) -> float:
    return float(abs(found - expected).max() / abs(expected).max())


if __name__ == "__main__":
    main()
