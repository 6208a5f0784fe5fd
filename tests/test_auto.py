"""--model_name=auto, the estimates it begins with, and what a conversion advises."""

import math

import pytest

from datasets import tfrecord_dataset
from datasets.conversion.destination import Destination
from datasets.conversion.tally import Conversion
from foundation import options
from foundation.errors import InputError, UsageError
from nets import names, published, speed
from nets.speed import Work
from runs import auto, durations, first_hour, train
from runs.options import TrainOptions
from training import distribution


@pytest.fixture
def machine(monkeypatch):
    """A machine of known speed: a million multiply-adds a second for one unit; counts measuring."""
    measured = []

    def speeds(factor=1.0):
        def images_per_second(options, net, distribution, size):
            measured.append(net.model_name)
            return factor * 1e9 / names.multiply_adds(net.model_name)

        monkeypatch.setattr("training.batch_size.images_per_second", images_per_second)
        monkeypatch.setattr(speed, "_matrix_speed", lambda: 1e10)
        monkeypatch.setattr(speed, "_START_SECS", 1.0)
        return measured

    return speeds


def chosen(colours, **given):
    lines = []
    asked = TrainOptions.of(dataset_dir=str(colours), model_name="auto", **given)
    options.check(asked)
    found = tfrecord_dataset.find(str(colours))
    return auto.choose(asked, found, distribution.create(), lines.append), "\n".join(lines)


def test_more_time_gets_a_better_net_and_each_is_measured(machine, colours):
    measured = machine()
    ranks = []
    for minutes in (1.0, 5.0, 60.0):
        made, said = chosen(colours, checkpoint_path="pretrained", max_minutes=minutes)
        ranks.append(published.TOP_1[made.net.model_name])
        assert made.net.model_name in measured and measured[0] == "mobilenet_v1_025"
        assert f"{made.net.model_name} " in said and "chosen: the best of those that fit" in said
        assert made.recipe_file.recipe == "quick_transfer"
        assert "efficientnet" not in said  # its paths drop at random: nothing to cache
    assert ranks == sorted(ranks) and ranks[0] < ranks[-1]


def test_what_is_measured_to_be_slow_is_not_chosen(machine, colours):
    machine()
    quick, _ = chosen(colours, checkpoint_path="pretrained", max_minutes=2.0)
    machine(factor=1 / 8)
    slow, said = chosen(colours, checkpoint_path="pretrained", max_minutes=2.0)
    rank = published.TOP_1
    assert rank[slow.net.model_name] < rank[quick.net.model_name] and "too slow" in said
    work = durations.work_of(slow, 24)
    assert work.draws == 4 and work.frozen


def test_a_net_whose_first_epoch_does_not_fit_is_never_chosen(machine, colours):
    machine(factor=1e-5)
    with pytest.raises(InputError, match=r"--max_minutes=0.5: is too little for a single look"):
        chosen(colours, max_minutes=0.5)


def test_as_many_epochs_as_fit_are_trained(machine, colours):
    machine(factor=1 / 20)
    made, said = chosen(colours, max_minutes=0.5)
    assert made.net.model_name == "mobilenet_v1_025"
    assert 1 <= made.training.length.num_epochs < 100
    assert f"{made.training.length.num_epochs:g} of 100 epochs fit" in said


def test_few_pictures_get_a_small_net_from_scratch(machine, colours):
    machine(factor=1e6)
    made, _ = chosen(colours, max_minutes=600.0)  # 24 pictures
    assert made.net.model_name == "mobilenet_v1_025"
    assert made.recipe_file.recipe == "from_scratch_small"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "needs --max_minutes"),
        ({"max_minutes": 5.0, "checkpoint_path": "old"}, "a checkpoint is of one"),
        ({"max_minutes": 5.0, "worker_hosts": ("a:1", "b:2")}, "measures one machine"),
    ],
)
def test_what_auto_can_t_do_is_a_usage_error(given, said):
    with pytest.raises(UsageError, match=f"--model_name=auto: .*{said}"):
        options.check(TrainOptions.of(dataset_dir="animals", model_name="auto", **given))


def test_a_run_begun_by_auto_goes_on_with_its_net(colours, tmp_path, short_mobilenet):
    given = {"dataset_dir": str(colours), "train_dir": str(tmp_path / "run"), "batch_size": 8}
    given |= {"model_name": "auto", "max_minutes": 5.0, "train_image_size": 32}
    lines = []
    train.train(TrainOptions.of(**given, max_number_of_steps=2), lines.append)
    assert any("mobilenet_v1_025" in line and "chosen" in line for line in lines)
    assert any(line.startswith("Steps: 0 to 2") and "by a rough estimate" in line for line in lines)
    again = train.train(TrainOptions.of(**given, max_number_of_steps=2), lines.append)
    assert again.was_finished and sum("Measuring" in line for line in lines) == 1


def test_the_time_of_a_training_is_the_sum_of_what_it_does():
    whole = Work(num_examples=10_000, epochs=10.0)
    cached = Work(num_examples=10_000, epochs=10.0, frozen=True, draws=2)
    assert whole.step(100.0) < cached.step(100.0) == 100.0
    assert whole.total(50.0) > whole.first_epoch(50.0) > 200
    assert whole.total(50.0) == pytest.approx(10 * 200, rel=0.05)
    assert cached.total(50.0) == pytest.approx(2 * 200 + 10 * 10_000 / 3_000, rel=0.1)
    assert math.isinf(Work(10, None).total(1.0))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(5, "less than a minute"), (100, "about 2 minutes"), (60, "about 1 minute")]
    + [(7200, "about 2 hours"), (86_400 * 9, "about 9 days")],
)
def test_durations_are_in_words(seconds, said):
    assert speed.duration(seconds) == said


def test_a_conversion_ends_with_the_recipes_that_fit():
    def advice(count):
        counts = {"train": {"cat": count // 2, "dog": count // 2}}
        made = Conversion(("cat", "dog"), counts, ["a.tfrecord"], [])
        return "\n".join(first_hour.lines(made, Destination("out", "pets")))

    few = advice(200)
    assert "--dataset_dir=out --dataset_name=pets --train_dir=pets_train" in few
    assert few.index("--recipe=quick_transfer") < few.index("--recipe=from_scratch_small")
    assert "200 photographs" in few and "minute" in few and "100 photographs a class" in few
    assert "a first impression" in advice(20) and "fine_tune may gain" in advice(2_000)
    assert "--recipe=imagenet_8gpu" in advice(400_000)
