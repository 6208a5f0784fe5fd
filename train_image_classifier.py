"""Trains an image classifier on TFRecords: from scratch, or from a TF-Slim checkpoint.

python train_image_classifier.py --dataset_dir=animals --model_name=inception_v3 --train_dir=output
"""

import shlex

import command_line
from command_line import say
from runs import checks
from runs.options import TrainOptions
from training import compile_cache, threads


def main(options: TrainOptions) -> None:
    checks.training(options)
    compile_cache.use(options.training.machine.compile_cache_dir)
    batch = options.training.batch
    threads.suit(options.net.model_name, batch.train_image_size, batch.batch_size)
    command_line.load_tensorflow()
    from runs import listing, train

    if options.listing.list_models:
        return listing.list_models(say)
    if options.listing.list_scopes:
        return listing.list_scopes(options, say)
    if options.preview.preview:
        return train.preview(options, say)
    if options.training.restoring.restore_dry_run:
        return train.restore_dry_run(options, say)
    if options.training.schedule.find_learning_rate:
        train.find_learning_rate(options, say)
        return
    trained = train.train(options, say)
    say(f"The run is in {trained.train_dir}, at step {trained.step}. Next:")
    taken = shlex.quote(f"--checkpoint_path={trained.checkpoint_path}")
    say(f"  python eval_image_classifier.py {taken} --eval_dir=EVAL_DIR")
    say(f"  python export_model.py {taken} --output_dir=EXPORT_DIR")
    say(f"  tensorboard {shlex.quote(f'--logdir={trained.train_dir}')}")


if __name__ == "__main__":
    command_line.run(main, TrainOptions)
