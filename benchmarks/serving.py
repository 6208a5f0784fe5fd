"""What it costs a SavedModel to see photographs as conversion does, beside bare decoding.

python -m benchmarks.serving --model_name=mobilenet_v1 --image_size=224

Two graphs with the same net and recipe take turns on the same JPEG bytes: one decodes them and
nothing more, the other also turns them, lays transparency on white, and goes on after a damaged
one. Processor time is shown too: it hardly depends on what else runs on the machine.
"""

import io
import statistics
import time

import numpy as np

import command_line
from foundation.options import Options, option, options


@options
class ServingBenchmark(Options):
    """What is measured."""

    model_name: str = option("mobilenet_v1", "Net.")
    image_size: int = option(224, "Side of the images.", bounds=(1, None))
    batch_sizes: tuple[int, ...] = option((1, 16), "Pictures a request.", bounds=(1, None))
    turns: int = option(30, "Requests of each graph that are timed.", bounds=(1, None))


def photograph(seed: int) -> bytes:
    """A JPEG of 500 x 375 pixels, with an EXIF orientation of 1 as cameras write it."""
    from PIL import Image

    noise = np.random.default_rng(seed).integers(0, 256, (94, 125, 3), np.uint8)
    image = Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 1
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85, exif=exif)
    return file.getvalue()


def graphs(model_name: str, size: int):
    """Functions from encoded pictures to probabilities, by name."""
    import tensorflow as tf

    from nets import nets_factory
    from preprocessing import preprocessing_factory
    from serving.pictures import reading

    net = nets_factory.get(model_name)
    model = nets_factory.build(model_name, 10, size)
    recipe = preprocessing_factory.get(net.preprocessing)
    pixels = tf.TensorSpec([size, size, 3], tf.float32)
    encoded = [tf.TensorSpec([None], tf.string)]

    def answer(images):
        return tf.nn.softmax(model(images, training=False)["logits"])

    @tf.function(input_signature=encoded)
    def bare(pictures):
        images = tf.map_fn(
            lambda data: recipe.evaluate(data, size), pictures, fn_output_signature=pixels
        )
        return answer(images)

    @tf.function(input_signature=encoded)
    def served(pictures):
        read = reading.read(pictures, lambda image: recipe.evaluate_image(image, size), pixels)
        return tf.gather(answer(read.pixels), read.rows)

    return {"decoded only": bare, "as conversion shows them": served}


def main(given: ServingBenchmark) -> None:
    import tensorflow as tf

    functions = graphs(given.model_name, given.image_size)
    for batch_size in given.batch_sizes:
        pictures = tf.constant([photograph(i) for i in range(batch_size)])
        clock = {name: [] for name in functions}
        processor = {name: [] for name in functions}
        for turn in range(given.turns + 2):
            for name, function in functions.items():
                start = time.perf_counter(), time.process_time()
                function(pictures).numpy()
                if turn > 1:
                    clock[name].append(time.perf_counter() - start[0])
                    processor[name].append(time.process_time() - start[1])
        for name in functions:
            rate = batch_size / statistics.median(clock[name])
            print(
                f"{batch_size} a request, {name}: {rate:.1f} images/s (best "
                f"{batch_size / min(clock[name]):.1f}), processor "
                f"{1000 * statistics.median(processor[name]) / batch_size:.2f} ms an image"
            )


if __name__ == "__main__":
    command_line.run(main, ServingBenchmark)
