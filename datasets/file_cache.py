"""Copies of TFRecord files nearer to the reader: on the local disk, or in memory.

For files on a network, and for compressed ones, which are inflated once in place of each epoch.
The order of the examples does not depend on it.
"""

import functools
import gzip
from collections.abc import Sequence

import tensorflow as tf

from foundation.files import scratch_folder

_BLOCK_BYTES = 2**22


def copies(files: Sequence[str], compression: str, kind: str) -> tuple[tuple[str, ...], str]:
    """Copies the files, uncompressed, unless this process has done so already.

    Args:
      files: paths that TensorFlow can open.
      compression: "" or "GZIP".
      kind: "none" leaves the files where they are, "memory" copies them into TensorFlow's file
        system in memory, "disk" into a temporary folder that `scratch_folder` removes.

    Returns:
      Their new paths, in the same order, and how these are compressed.
    """
    if kind == "none":
        return tuple(files), compression
    return tuple(_copy(path, compression, kind) for path in files), ""


@functools.cache
def _copy(path: str, compression: str, kind: str) -> str:
    folder = _folder(kind)
    copy = f"{folder}/{len(tf.io.gfile.listdir(folder)):05d}.tfrecord"
    with tf.io.gfile.GFile(path, "rb") as raw, tf.io.gfile.GFile(copy, "wb") as target:
        source = gzip.open(raw) if compression else raw
        while block := source.read(_BLOCK_BYTES):
            target.write(block)
    return copy


@functools.cache
def _folder(kind: str) -> str:
    if kind == "memory":
        folder = "ram://records"
        tf.io.gfile.makedirs(folder)
        return folder
    return scratch_folder("records")
