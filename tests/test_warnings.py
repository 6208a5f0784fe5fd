"""Warnings of our own making are errors, in tests and in the scripts that tests start."""

import pytest

from tests.forked import run_script

WARNS = "import warnings; warnings.warn('ours', {})"


@pytest.mark.parametrize("module", ["runs.train", "benchmarks.scale", "web_demo", "tests.a"])
@pytest.mark.parametrize("kind", ["UserWarning", "DeprecationWarning"])
def test_in_tests(module, kind):
    with pytest.raises(Warning, match="ours"):
        exec(WARNS.format(kind), {"__name__": module})


def test_other_people_s_are_not():
    with pytest.warns(UserWarning, match="ours"):
        exec(WARNS.format("UserWarning"), {"__name__": "runs_of_others"})


@pytest.mark.parametrize("module", ["runs.train", "__main__", "numpy"])
def test_in_scripts(module):
    done = run_script("-c", f"exec({WARNS.format('UserWarning')!r}, {{'__name__': {module!r}}})")
    assert (done.returncode == 1) == (module != "numpy") and "UserWarning: ours" in done.stderr
