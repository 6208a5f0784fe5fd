import numpy as np
import pytest

from training import rate_finder


def test_the_steepest_fall_before_the_lowest_point_is_named():
    rates = np.logspace(-6, 0, 61)
    # Flat, falling fastest around 1e-3, rising again from 1e-2 on.
    losses = 2 - np.tanh(2 * (np.log10(rates) + 3)) + 5 * np.maximum(np.log10(rates) + 2, 0)
    assert rate_finder.steepest(rates, losses) == pytest.approx(1e-3, rel=0.3)


def test_noise_before_the_descent_is_not_taken_for_it():
    rates = np.logspace(-7, 1, 100)
    noise = 0.08 * np.sin(np.arange(100) * 0.9) * (rates < 1e-3)
    losses = 1 - 0.3 * np.clip(np.log10(rates) + 3, 0, 1.5) + 9 * (rates > 0.5) + noise
    found = rate_finder.steepest(rates, losses)
    assert 1e-3 < found < 4e-2
    assert rate_finder.steepest(rates, 1 + noise) is None


def test_a_loss_that_never_falls_names_no_rate():
    rates = np.logspace(-6, 0, 61)
    assert rate_finder.steepest(rates, np.linspace(1, 2, 61)) is None
    assert rate_finder.steepest([1e-7], [0.7]) is None
