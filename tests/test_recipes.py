"""Recipes: files of flags in recipes/, and the word `head` that they use."""

import json
import pathlib

import keras
import pytest

from foundation import options
from foundation.errors import UsageError
from nets import checkpoints, heads, nets_factory, slim_names
from runs import recipes, train
from runs.options import TrainOptions
from training import phases

SLIM = pathlib.Path(__file__).parent / "fixtures/slim_parity/flags.json"


@pytest.mark.parametrize("name", recipes.names())
def test_each_recipe_is_a_training(name):
    given = TrainOptions.of(recipe=name, dataset_dir="animals")
    options.check(given)
    net = nets_factory.get(given.net.model_name)
    batch, scopes = given.training.batch, given.training.scopes
    phases.plan(
        batch.train_image_size or net.image_size,
        scopes.trainable_scopes,
        batch.progressive_resizing,
        scopes.unfreeze,
    )
    text = (recipes.FOLDER / f"{name}.flags").read_text(encoding="utf-8")
    assert "# For whom: " in text and "# Expect: " in text
    assert name == "slim_classic" or given.training.length.last_step(1000, 32)


def test_the_scopes_of_fine_tune_are_those_of_its_net():
    given = TrainOptions.of(recipe="fine_tune", dataset_dir="animals")
    with keras.StatelessScope(initialize_variables=False):
        net = nets_factory.build(given.net.model_name, 3)
    late = [scope for _, scope in given.training.scopes.unfreeze]
    factors = dict(given.training.scopes.learning_rate_multipliers)
    assert late == list(factors) and set(factors.values()) == {0.1}
    caught = slim_names.caught_by_match(late, slim_names.variables(net))
    assert any("expanded_conv_16/" in name for name in caught[late[0]])
    assert not any("expanded_conv_12/" in name for names in caught.values() for name in names)


def test_slim_classic_has_tf_slim_s_defaults():
    flags = json.loads(SLIM.read_text())["train_image_classifier.py"]
    slim = {flag["name"]: flag["default"] for flag in flags}
    values = recipes.read("slim_classic", TrainOptions)
    assert {name: slim[name] for name in values if name in slim} == {
        name: value for name, value in values.items() if name in slim
    }
    assert {"optimizer", "learning_rate", "opt_epsilon", "weight_decay"} <= slim.keys() & values
    assert (values["precision"], values["frozen_batch_norm"]) == ("float32", "slim")


def test_a_flag_wins_over_the_recipe_and_a_length_over_its_length(tmp_path):
    given = TrainOptions.of(recipe="quick_transfer", learning_rate=0.5, max_number_of_steps=7)
    assert given.training.schedule.learning_rate == 0.5
    assert given.training.optimizer.optimizer == "adam"
    assert given.training.length.num_epochs is None
    own = tmp_path / "own.flags"
    own.write_text("# mine\n\n--batch_size=8\n--augment=false\n")
    given = TrainOptions.of(recipe=str(own))
    assert (given.training.batch.batch_size, given.augmentation.augment) == (8, False)
    assert given.completed() == given


@pytest.mark.parametrize("line", ["--learning_rat=1", "learning_rate=1", "--augment", "--seed=a"])
def test_a_line_that_is_no_flag_is_named(tmp_path, line):
    (tmp_path / "own.flags").write_text(f"\n{line}\n")
    with pytest.raises(UsageError, match=r"own\.flags, line 2: "):
        TrainOptions.of(recipe=str(tmp_path / "own.flags"))


def test_an_unknown_recipe_is_a_usage_error():
    with pytest.raises(UsageError, match=r"--recipe=quick: no such recipe.*quick_transfer"):
        TrainOptions.of(recipe="quick")


@pytest.mark.parametrize(
    ("name", "scopes"),
    [
        ("lenet", {"LeNet/fc4"}),
        ("resnet_v1_50", {"resnet_v1_50/logits"}),
        ("inception_v3", {"InceptionV3/Logits", "InceptionV3/AuxLogits"}),
    ],
)
def test_head_stands_for_the_scopes_of_the_classifiers(name, scopes):
    net = nets_factory.get(name)
    with keras.StatelessScope(initialize_variables=False):
        model = nets_factory.build(name, 5)
    assert set(heads.scopes(model, net.scope)) == scopes
    assert heads.with_word(("a", "head"), model, net.scope)[0] == "a"


def test_a_recipe_trains(colours, tmp_path):
    """Only a new classifier, on the features of a net that was trained before."""
    common = {"dataset_dir": str(colours), "model_name": "small_cnn"}
    common |= {"train_image_size": 16, "batch_size": 8}
    before = TrainOptions.of(train_dir=str(tmp_path / "first"), max_number_of_steps=1, **common)
    train.train(before, lambda line: None)
    lines = []
    transfer = {"recipe": "quick_transfer", "checkpoint_path": str(tmp_path / "first")}
    after = TrainOptions.of(train_dir=str(tmp_path / "run"), num_epochs=2, **transfer, **common)
    train.train(after, lines.append)
    assert any(line.startswith("Feature cache: filled") for line in lines)
    assert any("--trainable_scopes: SmallCnn/logits catches 2" in line for line in lines)
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["flags"]["recipe"] == "quick_transfer"
    first, last = (checkpoints.read(str(tmp_path / name)) for name in ("first", "run"))
    names = [name for name in first.names if name.endswith(("weights", "biases"))]
    changed = {name for name in names if (first.get(name) != last.get(name)).any()}
    assert changed == {"SmallCnn/logits/weights", "SmallCnn/logits/biases"}
