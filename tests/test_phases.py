import pytest

from training import phases
from training.phases import Phase


def test_without_a_plan_there_is_one_phase():
    assert phases.plan(96, ("Net/Logits",)) == [Phase(0, 96, ("Net/Logits",))]


def test_sizes_and_scopes_change_at_their_steps():
    found = phases.plan(
        250, ("Logits",), [(128, 0), (192, 2000), (250, 4000)], [(1000, "Mixed_7"), (4000, "Mixed")]
    )
    assert found == [
        Phase(0, 128, ("Logits",)),
        Phase(1000, 128, ("Logits", "Mixed_7")),
        Phase(2000, 192, ("Logits", "Mixed_7")),
        Phase(4000, 250, ("Logits", "Mixed_7", "Mixed")),
    ]
    assert [phases.at(found, step) for step in (0, 999, 1000, 3999, 9000)] == [0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("scopes", "resizing", "unfreezing", "message"),
    [
        ((), [(128, 10), (250, 20)], [], "the first size must begin at step 0, such as 128:0"),
        ((), [(128, 0), (192, 20), (250, 10)], [], "the steps must rise"),
        ((), [(128, 0), (192, 20)], [], "or start a run with --train_image_size=192"),
        ((), [], [(10, "Net")], "--unfreeze: everything is trained already"),
    ],
)
def test_plans_that_make_no_sense(scopes, resizing, unfreezing, message):
    with pytest.raises(ValueError, match=message):
        phases.plan(250, scopes, resizing, unfreezing)
