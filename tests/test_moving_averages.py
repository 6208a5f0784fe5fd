import json
import pathlib

import numpy as np
import tensorflow as tf

from training import moving_averages

FIXTURE = json.loads(
    (pathlib.Path(__file__).parent / "fixtures/slim_parity/optimizers.json").read_text()
)


def test_averages_follow_the_variable_as_in_tensorflow_1():
    facts = FIXTURE["exponential_moving_average"]
    variable = tf.Variable(FIXTURE["initial"])
    averages = moving_averages.MovingAverages(facts["decay"], {"v": variable})
    update = tf.function(averages.update, autograph=False)
    (name, average), *others = averages.slots().items()
    assert (name, others) == (facts["shadow_variable_name"], [])
    values = FIXTURE["optimizers"]["momentum"]["values"]
    for n, value, expected in zip(facts["num_updates"], values, facts["averages"], strict=True):
        variable.assign(value)
        update(tf.constant(n, tf.int64))
        np.testing.assert_allclose(average.numpy(), expected, rtol=1e-6)
    variable.assign([10.0, 10.0, 10.0])
    update(tf.constant(10**7, tf.int64))
    later = facts["then_at_num_updates_1e7_with_variable_10_10_10"]
    np.testing.assert_allclose(average.numpy(), later, rtol=1e-6)


def test_follow_starts_the_averages_at_restored_weights():
    variable = tf.Variable([1.0, 2.0])
    averages = moving_averages.MovingAverages(0.9, {"v": variable})
    variable.assign([5.0, 6.0])
    averages.follow()
    np.testing.assert_array_equal(averages.slots()["v/ExponentialMovingAverage"], [5.0, 6.0])
