"""The flags that choose and show a net, and where it starts from, through the command lines."""

import json
import pathlib
import re
import tarfile

import pytest

from nets import checkpoints, nets_factory
from tests.conftest import ROOT, run_script

ZOO = str(ROOT / "tests/fixtures/slim_parity/checkpoints/zoo_v1/mobilenet_v1_0.25_128.ckpt")
SMALL = ("--model_name=mobilenet_v1_025", "--train_image_size=32", "--batch_size=8")


def train(*flags):
    return run_script("train_image_classifier.py", "--precision=float32", *flags)


def succeed(script, *flags):
    result = run_script(script, *flags)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_list_models():
    lines = succeed("train_image_classifier.py", "--list_models").splitlines()
    assert re.split("  +", lines[0]) == [
        *("name", "image", "parameters", "multiply-adds", "preprocessing"),
        *("root scope", "outputs", "pretrained"),
    ]
    assert [line.split()[0] for line in lines[1:-1]] == list(nets_factory.NETS)
    rows = {line.split()[0]: re.split("  +", line)[1:] for line in lines[1:-1]}
    assert rows["inception_v3"] == [
        *("299", "27.18 M", "5713 M", "inception", "InceptionV3", "1001", "zoo")
    ]
    assert rows["vgg_16"] == ["224", "138.36 M", "15470 M", "vgg", "vgg_16", "1000", "zoo"]
    assert rows["efficientnet_b0"][-1] == "keras"
    assert rows["small_cnn"][-1] == "-"


def test_list_scopes():
    lines = succeed("train_image_classifier.py", "--list_scopes").splitlines()
    assert lines[0] == "InceptionV3  388 variables, 27.18 M parameters"
    assert "InceptionV3/Mixed_7c/Branch_0  4 variables, 0.66 M parameters" in lines
    assert lines[-1].endswith(
        "--checkpoint_exclude_scopes=InceptionV3/AuxLogits,InceptionV3/Logits"
    )


def test_restore_dry_run_changes_nothing(colours, tmp_path):
    flags = (f"--dataset_dir={colours}", f"--train_dir={tmp_path}/run", *SMALL)
    flags += (f"--checkpoint_path={ZOO}", "--restore_dry_run")
    refused = train(*flags)
    assert refused.returncode == 1
    assert "other shape: MobilenetV1/Logits/Conv2d_1c_1x1/weights" in refused.stdout
    (line,) = refused.stderr.splitlines()
    advice = re.search(r"add (--checkpoint_exclude_scopes=\S+?)\.?$", line)[1]
    # The zoo's archive, downloaded before.
    with tarfile.open(tmp_path / "mobilenet_v1_0.25_224.tgz", "w:gz") as archive:
        archive.add(ZOO, "mobilenet_v1_0.25_224.ckpt")
    accepted = train(*flags, advice, "--checkpoint_path=pretrained", f"--cache_dir={tmp_path}")
    assert accepted.returncode == 0, accepted.stderr
    assert "135 variables restored, 2 excluded, 0 missing" in accepted.stdout
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def with_head(colours, tmp_path_factory):
    """Two steps of a net of the zoo with a head."""
    place = tmp_path_factory.mktemp("head")
    result = train(
        f"--dataset_dir={colours}",
        f"--train_dir={place}/run",
        *SMALL,
        f"--checkpoint_path={ZOO}",
        "--head=dense:8,dropout:0.5",
        "--trainable_scopes=MobilenetV1/Head",
        "--max_number_of_steps=2",
    )
    assert result.returncode == 0, result.stderr
    assert "excluded by MobilenetV1/Head (4)" in result.stdout
    return place


def test_evaluation_and_export_rebuild_the_head(with_head):
    run = f"--checkpoint_path={with_head}/run"
    config = json.loads((with_head / "run/run.json").read_text())
    assert config["net_options"] == {"head": "dense:8,dropout:0.5"}
    said = succeed("eval_image_classifier.py", run, f"--eval_dir={with_head}/eval")
    assert "139 variables restored.\n" in said and "unused" not in said
    said = succeed(
        "export_model.py", run, f"--output_dir={with_head}/export", "--formats=frozen_graph"
    )
    assert "139 variables restored" in said


def test_small_cnn(colours, tmp_path):
    flags = (f"--dataset_dir={colours}", f"--train_dir={tmp_path}/run", "--model_name=small_cnn")
    flags += ("--train_image_size=32", "--batch_size=8", "--max_number_of_steps=1")
    result = train(
        *flags, "--small_cnn_filters=4,8", "--small_cnn_dense_units=6", "--small_cnn_dropout=0.1"
    )
    assert result.returncode == 0, result.stderr
    shapes = checkpoints.read(f"{tmp_path}/run").shapes
    assert shapes["SmallCnn/conv2/weights"] == (3, 3, 4, 8)
    assert shapes["SmallCnn/dense/weights"] == (8 * 8 * 8, 6)
    other = train(*flags, "--small_cnn_dense_units=7")
    assert other.returncode == 1
    assert "--small_cnn_dense_units=7, but" in other.stderr
    assert "was trained with --small_cnn_dense_units=6" in other.stderr


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--small_cnn_dropout=0.1",), 2, "--small_cnn_dropout needs --model_name=small_cnn"),
        (("--restore_dry_run",), 2, "--restore_dry_run shows what --checkpoint_path gives"),
        (("--model_name=small_cnn", "--small_cnn_filters=4,x"), 2, "write a whole number"),
        (("--head=conv:8",), 2, "'conv:8' is neither dense:UNITS"),
    ],
)
def test_flags_that_make_no_sense(colours, tmp_path, flags, code, message):
    result = train(f"--dataset_dir={colours}", f"--train_dir={tmp_path}/run", *flags)
    assert result.returncode == code, result.stderr
    assert message in result.stderr.splitlines()[0]


def test_a_broken_checkpoint_is_one_line(colours, tmp_path):
    broken = tmp_path / "zoo.ckpt"
    broken.write_bytes(pathlib.Path(ZOO).read_bytes()[:100_000])
    for script, path in (
        ("train_image_classifier.py", f"--train_dir={tmp_path}/run"),
        ("eval_image_classifier.py", f"--eval_dir={tmp_path}/eval"),
    ):
        flags = (f"--dataset_dir={colours}", SMALL[0], f"--checkpoint_path={broken}", path)
        result = run_script(script, *flags)
        assert result.returncode == 1, result.stderr
        (line,) = result.stderr.splitlines()
        assert "zoo.ckpt: not a checkpoint, or a damaged one" in line
    assert not (tmp_path / "run" / "checkpoint").exists()
