"""Which evaluation inside a run was the best, also after it was killed."""

import pytest

from foundation.errors import InputError
from training import validation
from training.validation import Best


def evaluated(*accuracies):
    best = Best()
    for i, accuracy in enumerate(accuracies):
        best.take(accuracy, 10 * (i + 1))
    return best


def test_the_best_is_kept_and_what_came_after_it_counted():
    best = evaluated(0.5, 0.9, 0.8, 0.9)
    assert (best.accuracy, best.step, best.since) == (0.9, 20, 2)
    assert best.take(0.95, 50) and best.since == 0


def test_a_killed_run_counts_no_evaluation_twice(tmp_path):
    evaluated(0.5, 0.9, 0.8, 0.7).save(str(tmp_path))
    best = Best.load(str(tmp_path), 30)
    assert best.since == 1
    best.take(0.7, 40)
    assert best.since == 2


def test_a_run_that_restarts_before_its_best_does_not_lose_it(tmp_path):
    evaluated(0.5, 0.9).save(str(tmp_path))
    best = Best.load(str(tmp_path), 10)
    assert (best.accuracy, best.step, best.since) == (0.9, 20, 0)
    assert not best.take(0.6, 15)


def test_what_an_earlier_version_wrote_is_read(tmp_path):
    (tmp_path / validation.FOLDER).mkdir()
    old = '{"accuracy": 0.9, "step": 20, "since": 2}'
    (tmp_path / validation.FOLDER / "best.json").write_text(old)
    assert Best.load(str(tmp_path), 40) == Best(0.9, 20)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"step": 3}', '{"accuracy": "high", "step": 3}', b"\xff"]
)
def test_the_best_is_not_begun_anew_where_its_file_is_damaged(tmp_path, content):
    assert Best.load(str(tmp_path), 10) == Best()
    (tmp_path / validation.FOLDER).mkdir()
    path = tmp_path / validation.FOLDER / "best.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=r"best/best.json is damaged, .* Move .*/best elsewhere"):
        Best.load(str(tmp_path), 10)
