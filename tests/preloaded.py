"""What the processes of `forked` have imported when they begin: TensorFlow and the rooms."""

import gc

import command_line

command_line.load_tensorflow()

import runs.classify  # noqa: E402
import runs.compare  # noqa: E402
import runs.convert  # noqa: E402
import runs.evaluate  # noqa: E402
import runs.export  # noqa: E402
import runs.listing  # noqa: E402
import runs.train  # noqa: E402, F401

gc.freeze()  # so that no process's collector writes to the pages that they share
