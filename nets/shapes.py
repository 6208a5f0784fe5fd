"""Nets that are built for their shapes alone, without values for their variables."""

import contextlib
from collections.abc import Iterator

import keras
from keras.src.backend.common import global_state

# Where Keras lists variables that wait for their first values.
_WAITING = "uninitialized_variables"


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """The variables of nets built in this block never get values.

    Keras by itself would keep them, and draw their values with those of the next net whose layers'
    outputs it has to find out: seconds and gigabytes for what nobody asks for.
    """
    before = list(global_state.get_global_attribute(_WAITING, []))
    with keras.StatelessScope(initialize_variables=False):
        try:
            yield
        finally:
            global_state.set_global_attribute(_WAITING, before)
