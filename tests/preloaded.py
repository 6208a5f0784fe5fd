"""What the processes of `forked` have imported when they begin: TensorFlow and the rooms."""
# ruff: noqa: E402, F401

import gc

import command_line

command_line.load_tensorflow()

# What most scripts import once they draw, log, open a picture or measure.
import matplotlib.backends.backend_agg
import matplotlib.figure
import PIL.Image
import sklearn.metrics
import tensorboard.summary

import runs.classify
import runs.compare
import runs.convert
import runs.evaluate
import runs.export
import runs.listing
import runs.train

PIL.Image.init()

gc.freeze()  # so that no process's collector writes to the pages that they share
