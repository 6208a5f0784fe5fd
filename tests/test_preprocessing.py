"""Training preprocessing: what is drawn, from which distribution, and that it can be repeated."""

import numpy as np
import pytest
import tensorflow as tf

from preprocessing import ops, preprocessing_factory
from tests.fixtures.slim_parity import weights

cifarnet, inception = map(preprocessing_factory.get, ("cifarnet", "inception"))

_NO_BOXES = tf.zeros([0, 4])


def _seed(number: int) -> tf.Tensor:
    return tf.constant([7, number], tf.int32)


def _flat(color, height=64, width=64) -> tf.Tensor:
    return tf.io.encode_png(np.full([height, width, 3], color, np.uint8))


def _drawn(recipe: str, encoded, size: int, count: int, boxes=_NO_BOXES, **options) -> np.ndarray:
    """Many draws of one image, made inside tf.data as in training."""
    train = preprocessing_factory.get(recipe).train
    ds = tf.data.Dataset.range(count).map(
        lambda i: train(encoded, size, boxes, tf.stack([3, tf.cast(i, tf.int32)]), **options),
        num_parallel_calls=2,
    )
    return np.concatenate([batch.numpy() for batch in ds.batch(64)])


def _distance_to_uniform(values, lower: float, upper: float) -> float:
    """Kolmogorov-Smirnov distance: below 1.63 / sqrt(n) in 99 of 100 cases."""
    values = np.sort((np.asarray(values) - lower) / (upper - lower))
    return np.abs(values - np.linspace(0, 1, len(values))).max()


# Steps


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.3, 1.5, 4.0])
def test_saturation_is_that_of_tf_image(factor):
    image = np.random.default_rng(0).uniform(-0.13, 1.13, [40, 50, 3]).astype("float32")
    image[0] = image[0, :, :1]  # greys
    image[1], image[2] = 0.0, -0.1
    image[3, :, 2] = 0.0  # as saturated as can be
    expected = tf.image.adjust_saturation(image, factor)
    np.testing.assert_allclose(ops.adjust_saturation(image, factor), expected, atol=2e-6)


def test_contrast_and_hue_are_those_of_tf_image():
    image = np.random.default_rng(0).uniform(0, 1, [40, 50, 3]).astype("float32")
    np.testing.assert_allclose(
        ops.adjust_contrast(image, 1.4), tf.image.adjust_contrast(image, 1.4), atol=2e-6
    )
    np.testing.assert_allclose(
        ops.adjust_hue(image, -0.15), tf.image.adjust_hue(image, -0.15), atol=2e-6
    )


def test_grayscale_is_that_of_tf_image():
    image = np.random.default_rng(0).uniform(0, 1, [5, 6, 3]).astype("float32")
    np.testing.assert_allclose(ops.grayscale(image), tf.image.rgb_to_grayscale(image), atol=1e-6)


@pytest.mark.parametrize("method", range(4))
@pytest.mark.parametrize("size", [20, 70])
def test_resize_methods_are_those_of_tensorflow_1(method, size):
    image = weights.test_image(40, 50)
    expected = tf.compat.v1.image.resize_images(tf.cast(image, tf.float32), [size, size], method)
    result = ops.resize_by_method(image, size, size, tf.constant(method))
    np.testing.assert_allclose(result, expected, atol=1e-3)


@pytest.mark.parametrize("height, width", [(9, 9), (10, 9), (4, 4), (5, 4), (3, 12), (13, 7)])
def test_the_centre_is_that_of_tf_image(height, width):
    image = tf.constant(weights.test_image(height, width))
    for size in (4, 7, 8, 9):
        expected = tf.image.resize_with_crop_or_pad(image, size, size)
        np.testing.assert_array_equal(ops.crop_or_pad(image, size), expected)


def test_a_square_anywhere_is_one_of_the_padded_image():
    image = weights.test_image(6, 8)
    padded = np.pad(image, [[5, 5], [5, 5], [0, 0]])
    for top, left in ((-5, -5), (0, 0), (-2, 3), (7, 9), (2, -4), (1, 2)):
        square = ops.crop_or_pad(tf.constant(image), 4, tf.constant([top, left]))
        np.testing.assert_array_equal(square, padded[top + 5 : top + 9, left + 5 : left + 9])


def test_a_jpeg_window_is_the_window_of_the_whole_jpeg():
    encoded = tf.io.encode_jpeg(weights.test_image(), quality=90, chroma_downsampling=True)
    whole = tf.io.decode_jpeg(encoded, channels=3).numpy()
    for window in ([0, 0, 375, 500], [23, 31, 329, 438], [100, 7, 1, 1], [300, 400, 75, 100]):
        top, left, height, width = window
        part = ops.decode_window(encoded, lambda _, window=window: tf.constant(window)).numpy()
        expected = whole[top : top + height, left : left + width]
        # At the edge of the window the decoder knows no neighbours to smooth the colours with.
        assert np.abs(part.astype(int) - expected).mean() < 0.2, window


@pytest.mark.parametrize("kind", ["jpeg", "gray jpeg", "png", "gray png", "rgba png", "gif", "bmp"])
def test_every_format_gives_three_channels(kind):
    image = weights.test_image(20, 30)
    gray = image[..., :1]
    rgba = np.concatenate([image, gray], axis=-1)
    encoded = {
        "jpeg": lambda: tf.io.encode_jpeg(image),
        "gray jpeg": lambda: tf.io.encode_jpeg(gray),
        "png": lambda: tf.io.encode_png(image),
        "gray png": lambda: tf.io.encode_png(gray),
        "rgba png": lambda: tf.io.encode_png(rgba),
        "gif": lambda: _with_pillow(image, "GIF"),
        "bmp": lambda: _with_pillow(image, "BMP"),
    }[kind]()
    assert ops.decode(encoded).shape == [20, 30, 3]
    assert inception.train(encoded, 16, _NO_BOXES, _seed(0)).shape == [16, 16, 3]
    assert inception.evaluate(encoded, 16).shape == [16, 16, 3]


def _with_pillow(image: np.ndarray, kind: str) -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def test_uniform_draws_are_uniform_and_independent():
    ds = tf.data.Dataset.range(4000).map(
        lambda i: tf.stack(ops.uniforms(tf.stack([0, tf.cast(i, tf.int32)]), 3))
    )
    draws = np.stack(list(ds.as_numpy_iterator()))
    for column in draws.T:
        assert _distance_to_uniform(column, 0, 1) < 0.026
    neighbours = np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]
    assert np.abs(np.corrcoef(draws.T) - np.eye(3)).max() < 0.06
    assert abs(neighbours) < 0.06
    chosen = [int(ops.index_below(tf.constant(draw), 4)) for draw in draws[:1000, 1]]
    assert set(np.bincount(chosen, minlength=4) // 50) <= {4, 5}  # 200 to 299 each


# The crop


def _windows(count: int, boxes, shape=(300, 400, 3)) -> np.ndarray:
    ds = tf.data.Dataset.range(count).map(
        lambda i: ops.distorted_window(
            tf.constant(shape),
            tf.constant(boxes, tf.float32, [len(boxes), 4]),
            tf.stack([11, tf.cast(i, tf.int32)]),
        )
    )
    return np.stack(list(ds.as_numpy_iterator())).astype(float)


def test_crops_are_distributed_as_tf_slims():
    windows = _windows(3000, [])
    ds = tf.data.Dataset.range(3000).map(
        lambda i: tf.concat(
            [
                part[:2]
                for part in tf.image.sample_distorted_bounding_box(
                    [300, 400, 3],
                    [[[0.0, 0.0, 1.0, 1.0]]],
                    seed=5,
                    min_object_covered=0.1,
                    aspect_ratio_range=(0.75, 1.33),
                    area_range=(0.05, 1.0),
                    max_attempts=100,
                    use_image_if_no_bounding_boxes=True,
                )[:2]
            ],
            axis=0,
        )
    )
    expected = np.stack(list(ds.as_numpy_iterator())).astype(float)
    for name, of in {
        "top": lambda w: w[:, 0],
        "left": lambda w: w[:, 1],
        "area": lambda w: w[:, 2] * w[:, 3],
        "aspect": lambda w: w[:, 3] / w[:, 2],
    }.items():
        ours, theirs = np.sort(of(windows)), np.sort(of(expected))
        both = np.concatenate([ours, theirs])
        distance = np.abs(
            np.searchsorted(ours, both, "right") - np.searchsorted(theirs, both, "right")
        ).max() / len(ours)
        assert distance < 0.045, name  # 1.63 * sqrt(2 / 3000) is 0.042
    area = windows[:, 2] * windows[:, 3] / (300 * 400)
    assert 0.095 < area.min() and area.max() <= 1  # a tenth of the image's box must be covered
    aspect = windows[:, 3] / windows[:, 2]
    assert 0.74 < aspect.min() < 0.77 and 1.30 < aspect.max() < 1.35


def test_crops_cover_a_tenth_of_an_object():
    box = [0.1, 0.6, 0.3, 0.9]
    top, left, height, width = _windows(500, [box]).T / [[300], [400], [300], [400]]
    covered_y = np.minimum(top + height, box[2]) - np.maximum(top, box[0])
    covered_x = np.minimum(left + width, box[3]) - np.maximum(left, box[1])
    covered = np.clip(covered_y, 0, None) * np.clip(covered_x, 0, None) / (0.2 * 0.3)
    assert covered.min() > 0.09
    assert (height * width).min() < 0.095  # smaller crops than without boxes


def test_boxes_outside_the_image_or_empty_do_no_harm():
    boxes = [[-0.5, 0.2, 1.5, 0.8], [0.3, 0.3, 0.3, 0.9], [0.9, 0.1, 0.2, 0.5]]
    windows = _windows(20, boxes)
    assert (windows[:, :2] >= 0).all()
    assert (windows[:, 0] + windows[:, 2] <= 300).all()


# Recipes


# That of addons needs TensorFlow imported in a way of its own: tests/test_addons.py.
RECIPES = [name for name in preprocessing_factory.names() if name != "addons"]


@pytest.mark.parametrize("name", RECIPES)
def test_draws_depend_on_the_seed_alone(name):
    encoded = tf.io.encode_jpeg(weights.test_image(60, 80))
    train = preprocessing_factory.get(name).train
    by_hand = [train(encoded, 32, _NO_BOXES, _seed(i)).numpy() for i in range(4)]
    ds = tf.data.Dataset.range(4).map(
        lambda i: train(encoded, 32, _NO_BOXES, tf.stack([7, tf.cast(i, tf.int32)])),
        num_parallel_calls=4,
    )
    assert ds.element_spec.shape == [32, 32, 3]
    tf.random.set_seed(1)
    for a, b in zip(by_hand, ds.as_numpy_iterator(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    differing = len({image.tobytes() for image in by_hand})
    assert differing == (1 if name == "lenet" else 4)


@pytest.mark.parametrize(
    ("name", "use_grayscale"),
    # The recipe vgg refuses grayscale, which a test of its own holds.
    [(name, gray) for name in RECIPES for gray in (False, True) if (name, gray) != ("vgg", True)],
)
def test_the_two_stages_are_train(name, use_grayscale):
    recipe = preprocessing_factory.get(name)
    encoded = tf.io.encode_jpeg(weights.test_image(60, 80))
    decode, to_input = recipe.training_stages(32, use_grayscale)
    ds = tf.data.Dataset.range(3)
    ds = ds.map(lambda i: decode(encoded, _NO_BOXES, tf.stack([7, tf.cast(i, tf.int32)])))
    batch = next(iter(ds.batch(3).map(to_input)))
    assert batch.shape == [3, 32, 32, 1 if use_grayscale else 3]
    for i, image in enumerate(batch):
        expected = recipe.train(encoded, 32, _NO_BOXES, _seed(i), use_grayscale)
        np.testing.assert_allclose(image, expected, atol=1e-5)


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize("fast_mode", [True, False])
def test_inception_does_what_tf_slim_does_with_the_same_draws(number, fast_mode):
    encoded = tf.io.encode_png(weights.test_image(90, 120))
    seed, size = _seed(number), 40
    mirror, method, order, *amounts = ops.uniforms(seed, 7)
    window = ops.distorted_window(tf.constant([90, 120, 3]), _NO_BOXES, seed)
    image = tf.image.convert_image_dtype(tf.io.decode_png(encoded), tf.float32)
    image = tf.image.crop_to_bounding_box(image, *tf.unstack(window))
    method = 0 if fast_mode else int(method * 4)
    image = tf.compat.v1.image.resize_images(image, [size, size], method)
    if mirror < 0.5:
        image = tf.image.flip_left_right(image)
    brightness, saturation, contrast, hue = (
        float(low + (high - low) * draw)
        for (low, high), draw in zip(
            ((-32 / 255, 32 / 255), (0.5, 1.5), (0.5, 1.5), (-0.2, 0.2)), amounts, strict=True
        )
    )
    steps = {
        "brightness": lambda x: tf.image.adjust_brightness(x, brightness),
        "saturation": lambda x: tf.image.adjust_saturation(x, saturation),
        "contrast": lambda x: tf.image.adjust_contrast(x, contrast),
        "hue": lambda x: tf.image.adjust_hue(x, hue),
    }
    orders = (
        ("brightness", "saturation", "hue", "contrast"),
        ("saturation", "brightness", "contrast", "hue"),
        ("contrast", "hue", "brightness", "saturation"),
        ("hue", "saturation", "contrast", "brightness"),
    )
    for step in orders[0][:2] if fast_mode else orders[int(order * 4)]:
        image = steps[step](image)
    expected = (tf.clip_by_value(image, 0, 1) - 0.5) * 2
    result = inception.train(encoded, size, _NO_BOXES, seed, fast_mode=fast_mode)
    # In fast mode pixels are rounded to whole numbers before their colours are changed.
    tolerance = 2 * 2 * 0.51 / 255 if fast_mode else 1e-4
    np.testing.assert_allclose(result, expected, atol=tolerance)


def test_inceptions_brightness_and_saturation_are_uniform():
    color = np.array([200, 120, 80])
    images = _drawn("inception", _flat(color), 8, 600)
    image = (images[:, 0, 0] / 2 + 0.5).astype(float)
    np.testing.assert_allclose(images, np.broadcast_to(images[:, :1, :1], images.shape), atol=1e-6)
    brightness = image[:, 0] - 200 / 255
    factor = (image[:, 0] - image[:, 1]) / (80 / 255)
    assert _distance_to_uniform(brightness, -32 / 255, 32 / 255) < 0.067
    assert _distance_to_uniform(factor, 0.5, 1.5) < 0.067
    assert abs(np.corrcoef(brightness, factor)[0, 1]) < 0.12


def test_inceptions_second_fast_order_is_there_on_request():
    # Where little brightness is left, saturation's limit shows which of the two came first.
    encoded = _flat([40, 20, 0])
    one = _drawn("inception", encoded, 4, 200, num_color_orders=1)
    two = _drawn("inception", encoded, 4, 200, num_color_orders=2)
    changed = (np.abs(one - two).max(axis=(1, 2, 3)) > 1e-3).mean()
    assert 0.15 < changed < 0.6
    assert (np.abs(one - _drawn("inception", encoded, 4, 200)) < 1e-6).all()


def test_half_of_the_images_are_mirrored():
    ramp = np.tile(np.linspace(20, 220, 64).astype(np.uint8)[None, :, None], [64, 1, 3])
    for name in ("inception", "vgg", "cifarnet"):
        images = _drawn(name, tf.io.encode_png(ramp), 32, 400)
        mirrored = (images[:, :, 0] > images[:, :, -1]).mean(axis=(1, 2)) > 0.5
        assert 0.42 < mirrored.mean() < 0.58, name


def test_inception_without_crop_keeps_the_whole_image():
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], [64, 1, 3])
    images = _drawn("inception", tf.io.encode_png(ramp), 64, 20, crop_image=False)
    # Brightness moves both ends alike and is clipped at one of them at most.
    assert (images.max(axis=(1, 2, 3)) - images.min(axis=(1, 2, 3)) > 2 - 64 / 255 - 0.01).all()


def test_vggs_shorter_side_is_uniform_between_its_bounds():
    ramp = np.tile(np.linspace(0, 255, 400).astype(np.uint8)[None, :, None], [400, 1, 3])
    images = _drawn("vgg", tf.io.encode_png(ramp), 224, 150)
    slope = np.abs(images[:, 100, 0, 0] - images[:, 100, -1, 0]) / 223
    side = 255 / slope
    assert 250 < side.min() < 270 and 495 < side.max() < 520
    assert _distance_to_uniform(side, 256, 512) < 0.15
    left = images[:, 100, :, 0].min(axis=1) + 123.68
    assert left.min() < 15 and left.max() > 80  # crops lie anywhere


def test_vgg_takes_other_sides_and_larger_sizes():
    encoded = tf.io.encode_png(weights.test_image(50, 70))
    vgg = preprocessing_factory.get("vgg")
    options = {"resize_side_min": 40, "resize_side_max": 40}
    assert vgg.train(encoded, 40, _NO_BOXES, _seed(0), **options).shape == [40, 40, 3]
    assert vgg.evaluate(encoded, 40, resize_side_min=40).shape == [40, 40, 3]
    # TF-Slim stops at 257 already.
    assert vgg.train(encoded, 299, _NO_BOXES, _seed(0)).shape == [299, 299, 3]
    assert vgg.evaluate(encoded, 299).shape == [299, 299, 3]


def test_vgg_refuses_what_it_cannot_do():
    encoded = tf.io.encode_png(weights.test_image(50, 70))
    vgg = preprocessing_factory.get("vgg")
    with pytest.raises(ValueError, match="--use_grayscale does not go with .*vgg"):
        vgg.evaluate(encoded, 224, use_grayscale=True)
    with pytest.raises(ValueError, match="cannot crop 224 pixels .* resized to 200"):
        vgg.evaluate(encoded, 224, resize_side_min=200)
    with pytest.raises(ValueError, match="resize_side_min=300 is above resize_side_max=299"):
        vgg.train(encoded, 64, _NO_BOXES, _seed(0), resize_side_min=300, resize_side_max=299)


def test_cifarnet_crops_anywhere_in_the_padded_image():
    image = np.zeros([32, 32, 3], np.uint8)
    image[16, 16] = 255
    images = _drawn("cifarnet", tf.io.encode_png(image), 32, 800)
    rows, columns = np.unravel_index(images[..., 0].reshape(800, -1).argmax(1), [32, 32])
    assert set(rows) == set(range(12, 21))
    assert set(columns) == set(range(11, 21))  # one more: mirrored, 16 becomes 15
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), 0, atol=1e-3)


def test_cifarnets_contrast_and_brightness_leave_whitened_images():
    images = _drawn("cifarnet", tf.io.encode_png(weights.test_image(32, 32)), 32, 20)
    np.testing.assert_allclose(images.std(axis=(1, 2, 3)), 1, atol=1e-3)
    # A flat image shows that whitening comes last: it has no deviation to divide by.
    assert np.abs(_drawn("cifarnet", _flat([99, 99, 99]), 32, 5, padding=0)).max() < 0.05


def test_cifarnet_takes_images_smaller_than_the_net():
    encoded = tf.io.encode_png(weights.test_image(10, 40))
    assert cifarnet.train(encoded, 32, _NO_BOXES, _seed(0)).shape == [32, 32, 3]


@pytest.mark.parametrize("number", range(8))
def test_cifarnet_does_what_tf_slim_does_with_the_same_draws(number):
    encoded, seed = tf.io.encode_png(weights.test_image(30, 40)), _seed(number)
    top, left, mirror, brightness, contrast = (float(x) for x in ops.uniforms(seed, 5))
    image = tf.pad(tf.cast(tf.io.decode_png(encoded), tf.float32), [[4, 4], [4, 4], [0, 0]])
    top, left = int(top * (38 - 32 + 1)), int(left * (48 - 32 + 1))
    image = image[top : top + 32, left : left + 32]
    if mirror < 0.5:
        image = tf.image.flip_left_right(image)
    image = tf.image.adjust_brightness(image, -63 + 126 * brightness)
    image = tf.image.adjust_contrast(image, 0.2 + 1.6 * contrast)
    expected = tf.image.per_image_standardization(image)
    result = cifarnet.train(encoded, 32, _NO_BOXES, seed)
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_lenet_trains_on_what_it_evaluates():
    encoded = tf.io.encode_png(weights.test_image(28, 28))
    lenet = preprocessing_factory.get("lenet")
    for gray in (False, True):
        np.testing.assert_array_equal(
            lenet.train(encoded, 28, _NO_BOXES, _seed(0), gray), lenet.evaluate(encoded, 28, gray)
        )


# The table


def test_an_unknown_recipe_is_answered_with_the_closest():
    with pytest.raises(ValueError, match="--preprocessing_name=incepton: is .* mean inception"):
        preprocessing_factory.get("incepton")
