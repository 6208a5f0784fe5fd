"""Checkpoints of TF-Slim's kind: weights under slim names, read and written.

Read: V1 (one file) and V2 (an .index and a .data file) checkpoints, the directory that holds them,
and archives of the model zoo as downloaded. Written: V2, with TF-Slim's `checkpoint` state file, so
that TF-Slim and every tool for its checkpoints can read it.

`find` tells which file a path stands for, `reader` what is in it, `writer` writes it whole, and
`fit` gives it to a model: what is wrong with a file is found before the model is touched.
"""

from nets.checkpoints.find import in_order, latest
from nets.checkpoints.fit import (
    AVERAGE,
    Report,
    assign,
    head_size,
    plan,
    restore,
    values,
    weights,
)
from nets.checkpoints.reader import Reader, Values, global_step, read
from nets.checkpoints.writer import not_written, write

__all__ = [
    "AVERAGE",
    "Reader",
    "Report",
    "Values",
    "assign",
    "global_step",
    "head_size",
    "in_order",
    "latest",
    "not_written",
    "plan",
    "read",
    "restore",
    "values",
    "weights",
    "write",
]
