"""McNemar's test, Holm's correction and what differs between two nets, against hand-made counts."""

import numpy as np
import pytest

from evaluation import comparison
from evaluation.comparison import Answers
from foundation.errors import InputError


def answers(name, text, labels="aaaabbbb"):
    """A net that says these letters of examples whose true classes are `labels`."""
    rows = [
        {"filename": f"{i}.jpg", "label": label, "prediction": said}
        for i, (label, said) in enumerate(zip(labels, text, strict=True))
    ]
    return Answers.of(name, rows[::-1])  # the order of the rows does not matter


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (1, 7, 18 / 256),  # 2 · (1 + 8) / 2⁸
        (0, 5, 2 / 32),
        (2, 8, 112 / 1024),  # 2 · (1 + 10 + 45) / 2¹⁰
        (3, 3, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_by_hand(only_first, only_second, p):
    both = [True] * 4 + [False] * 3
    first = np.array(both + [True] * only_first + [False] * only_second)
    second = np.array(both + [False] * only_first + [True] * only_second)
    assert comparison.mcnemar(first, second) == (only_first, only_second, pytest.approx(p))


def test_holm_by_hand():
    # In order: 0.005 · 4, 0.01 · 3, 0.03 · 2, and 0.04 · 1, which may not be less than 0.06.
    found = comparison.holm([0.01, 0.04, 0.03, 0.005])
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert comparison.holm([0.5, 0.9]) == [1.0, 1.0]
    assert comparison.holm([]) == []


def test_what_differs():
    first, second = answers("one", "aabbbbba"), answers("two", "aaaabbaa")
    assert first.right.tolist() == [True, True, False, False, True, True, True, False]
    assert comparison.flipped(first, second) == ([2, 3], [6])
    rows = comparison.class_differences(first, second)
    # Of a, two of four flipped one way: p = 2 · 1 / 2²; of b one of one: p = 1.
    assert rows[0] == ("a", 4, 0.5, 1.0, pytest.approx(0.5), pytest.approx(1.0))
    assert rows[1] == ("b", 4, 0.75, 0.5, pytest.approx(1.0), pytest.approx(1.0))


def test_other_examples_are_refused_with_the_reason():
    first = answers("one", "aab", "aab")
    comparison.check_same_examples(first, answers("two", "bbb", "aab"))
    with pytest.raises(InputError, match="3 and 2 examples; 2.jpg of class b is among those of on"):
        comparison.check_same_examples(first, answers("two", "aa", "aa"))
    with pytest.raises(InputError, match="2.jpg of class b is among those of one only"):
        comparison.check_same_examples(first, answers("two", "aab", "aaa"))
    twice = Answers("two", first.examples[:1] * 2 + first.examples, ("a",) * 5)
    with pytest.raises(InputError, match="some of them several times"):
        comparison.check_same_examples(first, twice)


def test_pareto_front():
    assert comparison.pareto_front([3.0, 1.0, 2.0, 2.5], [0.9, 0.5, 0.8, 0.7]) == [1, 2, 0]
    assert comparison.pareto_front([1.0, 1.0], [0.4, 0.6]) == [1]


def test_a_choice_of_the_flipped_is_spread_over_them():
    assert comparison.spread(range(100, 110), 4) == [100, 102, 105, 107]
    assert comparison.spread([3, 5], 4) == [3, 5]
