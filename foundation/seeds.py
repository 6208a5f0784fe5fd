"""Seeds of random numbers that are functions of a run's seed and a number alone."""

from typing import Any


def pair(seed: int, number: Any) -> tuple[Any, Any]:
    """Two numbers within int32 for a seed and an int64 number, such as an epoch's or an example's.

    `number` may be an int, an array or a tensor of int64: only arithmetic is used. The low word of
    the seed is added to the high word of the number; the second is the number's low word.
    """
    return _word(seed + number // 2**32), _word(number)


def _word(value: Any) -> Any:
    """The lowest 32 bits, as int32 reads them."""
    return (value + 2**31) % 2**32 - 2**31
