"""Searches the settings of a training: which net, which rate, which regularisation are best.

python tune_image_classifier.py --dataset_dir=animals --train_dir=tuned --num_epochs=20 \\
  --search='learning_rate=log:1e-4:1e-1;optimizer=adam,momentum;model_name=small_cnn,mobilenet_v1_025'

All flags of train_image_classifier.py hold for every trial, besides --train_dir, below which each
trial has a folder of its own, and --max_minutes, which is the time for all trials together.
"""

from command_line import load_tensorflow, run, say
from runs import checks
from runs.options import TuneOptions


def main(options: TuneOptions) -> None:
    checks.training(options)
    load_tensorflow()
    from runs.tune import tune

    tune(options, say)


if __name__ == "__main__":
    run(main, TuneOptions)
