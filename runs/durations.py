"""How long a training will take, from its options, before a net is built."""

from nets import names, speed
from nets.speed import Work
from runs.options import TrainOptions


def work_of(options: TrainOptions, num_examples: int) -> Work:
    """What a training will compute, by its options."""
    training, augmentation = options.training, options.augmentation
    images = training.batch.images_per_step(1, training.machine.num_clones)
    last = training.length.last_step(num_examples, images)
    cache, frozen = training.feature_cache, bool(training.scopes.trainable_scopes)
    draws = cache.feature_cache_augmentations or int(not augmentation.augment)
    changing = training.scopes.unfreeze or training.batch.progressive_resizing
    if not frozen or cache.feature_cache == "off" or changing:
        draws = 0
    return Work(num_examples, last and last * images / num_examples, frozen, draws)


def estimated(options: TrainOptions, work: Work) -> float:
    """Seconds on this machine's processors; infinity for a run without a length."""
    name, size = options.net.model_name, options.training.batch.train_image_size
    seconds = work.total(work.step(speed.forward_per_second(name, size or names.image_size(name))))
    return min(seconds, options.training.length.max_seconds)
