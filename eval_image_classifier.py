"""Evaluates an image classifier on a split of a dataset, each example exactly once.

python eval_image_classifier.py --checkpoint_path=output --eval_dir=output_eval

Net, image size, preprocessing, classes and dataset come from the checkpoint's run.json; a
checkpoint without one, such as TF-Slim's own, needs --model_name and --dataset_dir. With
--eval_interval_secs=60 each new checkpoint of a training that goes on is evaluated. With
--visualize=photo.jpg it draws what the net makes of a picture.
"""

from command_line import load_tensorflow, run, say
from runs import checks
from runs.options import EvaluateOptions


def main(options: EvaluateOptions) -> None:
    if options.visualization.visualize:
        checks.visualization(options)
        load_tensorflow()
        from runs.visualize import visualize

        visualize(options, say)
    elif options.watching.eval_interval_secs is None:
        checks.evaluation(options)
        load_tensorflow()
        from runs.evaluate import evaluate

        evaluate(options, say)
    else:
        checks.watching(options)
        load_tensorflow()
        from runs.watch import watch

        watch(options, say)


if __name__ == "__main__":
    run(main, EvaluateOptions)
