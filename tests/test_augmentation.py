"""What any recipe can be given by flags: geometry, RandAugment, erasing, pixels."""

import io
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from preprocessing import augmentation, normalization, ops, preprocessing_factory, randaugment
from preprocessing.augmentation import augment
from preprocessing.options import NORMALIZATIONS, AugmentationOptions, PixelsOptions


def photo(height=40, width=60):
    """Smooth colours with an edge, uint8."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return (np.stack([x, y, (x > 0.5) * 0.8], axis=-1) * 200 + 20).astype(np.uint8)


def encoded(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def drawing(**options):
    """A function that draws a changed image, from image and seed."""
    return lambda image, seed: augment(image, seed, AugmentationOptions(**options))


def floats(pixels):
    return tf.constant(pixels, tf.float32)


SEEDS = [tf.constant([i, 7], tf.int32) for i in range(40)]


def test_nothing_asked_for_changes_nothing():
    nothing = AugmentationOptions(fill_mode="wrap")
    assert not nothing.changes_images
    image = floats(photo())
    np.testing.assert_array_equal(augment(image, SEEDS[0], nothing), image)
    recipe = preprocessing_factory.get("vgg")
    assert preprocessing_factory.get("vgg", augmentation=nothing) is recipe


def test_cifarnets_colours_stay_what_they_are_beside_a_flip():
    own = preprocessing_factory.get("cifarnet")
    flipped = preprocessing_factory.get(
        "cifarnet", augmentation=AugmentationOptions(vertical_flip=True)
    )
    data, boxes = encoded(photo(32, 32)), tf.zeros([0, 4])
    for seed in SEEDS[:12]:
        expected = own.train(data, 32, boxes, seed).numpy()
        drawn = flipped.train(data, 32, boxes, seed).numpy()
        apart = min(np.abs(drawn - one).max() for one in (expected, expected[::-1]))
        assert apart < 1e-3


def test_a_quarter_turn_is_pillows():
    image = photo(41, 41)
    turned = ops.transform(floats(image), [ops.rotation(tf.constant(np.pi / 2))], "constant")
    np.testing.assert_allclose(turned, np.rot90(image), atol=0.01)


@pytest.mark.parametrize(
    ("theirs", "matrix"),
    [
        ({"theta": 20}, lambda: ops.rotation(tf.constant(np.deg2rad(20.0), tf.float32))),
        ({"shear": 15}, lambda: ops.shear(tf.constant(np.deg2rad(15.0), tf.float32))),
        ({"zx": 0.8, "zy": 1.2}, lambda: ops.scaling(0.8, 1.2)),
    ],
)
def test_geometry_is_that_of_keras(theirs, matrix):
    pytest.importorskip("scipy")  # which Keras needs for it
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    image = floats(photo(41, 41))  # Keras takes the sides for each other where they differ
    expected = ImageDataGenerator(fill_mode="nearest").apply_transform(image.numpy(), theirs)
    ours = ops.transform(image, [matrix()], "nearest")
    np.testing.assert_allclose(ours, expected, atol=0.1)


@pytest.mark.parametrize("name", ["rotation_range", "shear_range", "zoom_range"])
def test_geometry_moves_pixels_by_chance_and_keeps_the_middle(name):
    # A dark point in the middle says whether the centre stays.
    image = np.full((41, 41, 3), 200, np.uint8)
    image[20, 20] = 0
    change = drawing(**{name: 0.3 if name == "zoom_range" else 30.0})
    drawn = [change(floats(image), seed).numpy() for seed in SEEDS[:8]]
    assert all(one[20, 20, 0] < 100 for one in drawn)
    textured = [change(floats(photo(41, 41)), seed).numpy() for seed in SEEDS[:2]]
    assert np.abs(textured[0] - textured[1]).max() > 10
    again = change(floats(photo(41, 41)), SEEDS[0]).numpy()
    np.testing.assert_array_equal(again, textured[0])


def test_shifts_are_parts_of_the_side_or_pixels():
    image = floats(np.repeat(np.arange(100)[None, :, None], 20, axis=0).repeat(3, axis=2))
    for width_range, most in ((0.2, 20), (5.0, 5)):
        change = drawing(width_shift_range=width_range)
        moved = [float(change(image, seed)[10, 50, 0]) - 50 for seed in SEEDS]
        assert most * 0.8 < max(map(abs, moved)) <= most
        assert min(moved) < 0 < max(moved)


def test_flips_and_brightness_follow_their_probabilities():
    image = floats(photo())
    flipped = [drawing(horizontal_flip=True)(image, seed) for seed in SEEDS]
    mirrored = sum(np.array_equal(one, image[:, ::-1]) for one in flipped)
    assert 10 <= mirrored <= 30
    vertical = [drawing(vertical_flip=True)(image, seed) for seed in SEEDS]
    assert 10 <= sum(np.array_equal(one, image[::-1]) for one in vertical) <= 30
    change = drawing(brightness_range=(0.5, 0.9))
    factors = [float(tf.reduce_mean(change(image, s)) / tf.reduce_mean(image)) for s in SEEDS]
    assert 0.5 <= min(factors) < 0.6 and 0.8 < max(factors) <= 0.9


@pytest.mark.parametrize(
    ("fill_mode", "corner"), [("constant", 0), ("nearest", 20), ("wrap", 219), ("reflect", 20)]
)
def test_what_lies_outside_is_filled(fill_mode, corner):
    image = floats(photo()[..., :1])
    moved = ops.transform(image, [ops.translation(-3.0, 0.0)], fill_mode)
    assert float(moved[0, 2, 0]) == pytest.approx(corner, abs=12)


def test_erasing_takes_its_share_of_the_images_and_of_their_area():
    image = floats(np.full((50, 50, 3), 100))
    change = drawing(random_erasing=0.5)
    areas = [float(np.mean(change(image, seed).numpy() != 100)) for seed in SEEDS]
    hit = [area for area in areas if area]
    assert 10 <= len(hit) <= 30
    assert max(hit) < 0.45
    whole = augmentation.erased(image, SEEDS[0])
    assert 0 <= float(tf.reduce_min(whole)) and float(tf.reduce_max(whole)) <= 255


def test_equalize_and_autocontrast_are_pillows():
    rng = np.random.default_rng(0)
    dark = np.clip(rng.normal(60, 20, (64, 64, 3)), 0, 255).astype(np.uint8)
    dark[..., 2] = 7  # a channel without a histogram to spread
    picture = Image.fromarray(dark)
    np.testing.assert_array_equal(ops.equalize(floats(dark)), ImageOps.equalize(picture))
    ours = ops.autocontrast(floats(dark)).numpy()
    np.testing.assert_allclose(ours, ImageOps.autocontrast(picture), atol=1.01)


@pytest.mark.parametrize("factor", [0.1, 1.0, 1.9])
def test_enhancements_are_pillows(factor):
    pixels, picture = floats(photo()), Image.fromarray(photo())
    sharp = ImageEnhance.Sharpness(picture).enhance(factor)
    np.testing.assert_allclose(ops.sharpness(pixels, tf.constant(factor)), sharp, atol=1.5)
    bright = ImageEnhance.Brightness(picture).enhance(factor)
    ours = ops.blend(tf.zeros_like(pixels), pixels, tf.constant(factor))
    np.testing.assert_allclose(ours, bright, atol=1.01)
    np.testing.assert_array_equal(ops.posterize(pixels, 3), ImageOps.posterize(picture, 3))


def test_randaugment_draws_all_changes_and_none_at_magnitude_zero():
    image = floats(photo())
    drawn = [randaugment.augment(image, seed, 1, 9.0).numpy() for seed in SEEDS]
    assert len({one.tobytes() for one in drawn}) > 15
    assert all(one.min() >= 0 and one.max() <= 255 and one.shape == (40, 60, 3) for one in drawn)
    assert any(np.array_equal(one, image) for one in drawn)  # the change that changes nothing
    gray = randaugment.augment(image[..., :1], SEEDS[3], 3, 9.0)
    assert gray.shape == (40, 60, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fill_mode": "mirror"}, "--fill_mode=mirror: unknown. Choose of nearest"),
        ({"zoom_range": 1.0}, "--zoom_range=1.0: write a number from 0 to 0.99"),
        ({"random_erasing": 2.0}, "--random_erasing=2.0: write a number from 0 to 1"),
        ({"randaugment_magnitude": 11.0}, "--randaugment_magnitude=11.0: .* from 0 to 10"),
    ],
)
def test_impossible_values_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AugmentationOptions(**options)


# Pixels options


def get(name, **options):
    return preprocessing_factory.get(name, PixelsOptions(**options))


@pytest.mark.parametrize("name", ["inception", "vgg", "lenet"])
def test_a_recipe_by_its_own_normalization_is_itself(name):
    recipe = get(name)
    same = get(name, normalization=recipe.normalization)
    data = encoded(photo(300, 280))
    np.testing.assert_allclose(same.evaluate(data, 64), recipe.evaluate(data, 64), atol=1e-4 * 255)


def test_torchs_and_caffes_numbers():
    data = encoded(photo(64, 64))
    pixels = (get("lenet").evaluate(data, 64) + 1) * 128
    torch = get("lenet", normalization="torch").evaluate(data, 64)
    expected = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(torch, expected, atol=1e-4)
    given = {"normalization": "torch", "means": [0.5] * 3, "stds": [0.25] * 3}
    other = get("lenet", **given)
    np.testing.assert_allclose(other.evaluate(data, 64), (pixels / 255 - 0.5) / 0.25, atol=1e-4)
    assert other.value_range == pytest.approx((-2, 2))
    caffe = get("lenet", normalization="caffe").evaluate(data, 64)
    expected = pixels.numpy()[..., ::-1] - [103.939, 116.779, 123.68]
    np.testing.assert_allclose(caffe, expected, atol=1e-2)
    white = get("cifarnet", normalization="inception")
    image = white.evaluate(data, 64)
    np.testing.assert_allclose((image + 1) * 127.5, pixels, atol=1e-2)
    whiten = get("inception", normalization="whiten").evaluate(data, 32)
    assert float(tf.reduce_mean(whiten)) == pytest.approx(0, abs=1e-4)


def test_letterbox_and_stretch_show_the_whole_image():
    image = np.zeros((30, 60, 3), np.uint8) + np.array([200, 100, 50], np.uint8)
    for fit, black in (("letterbox", 0.5), ("stretch", 0.0)):
        recipe = get("vgg", fit=fit, normalization="inception")
        for prepared in (
            recipe.evaluate(encoded(image), 32),
            recipe.train(encoded(image), 32, tf.zeros([0, 4]), SEEDS[0]),
            recipe.evaluate_image(tf.constant(image), 32),
        ):
            assert prepared.shape == (32, 32, 3)
            assert np.mean(prepared.numpy()[..., 0] < -0.99) == black


def test_pixels_options_change_training_and_evaluation_alike_in_gray():
    recipe = get("inception", fit="stretch", equalize=True)
    for prepared in (
        recipe.evaluate(encoded(photo()), 16, use_grayscale=True),
        recipe.train(encoded(photo()), 16, tf.zeros([0, 4]), SEEDS[0], use_grayscale=True),
    ):
        assert prepared.shape == (16, 16, 1)
    with pytest.raises(
        ValueError, match="--use_grayscale does not go with the normalisation torch"
    ):
        get("inception", normalization="torch").evaluate(encoded(photo()), 16, use_grayscale=True)
    for wrong in (
        {"fit": "squeeze"},
        {"normalization": "tf"},
        {"normalization": "torch", "stds": [0]},
    ):
        with pytest.raises(ValueError, match="--(fit|normalization|stds)"):
            get("inception", **wrong)


def test_each_normalization_of_the_option_is_there():
    zca = types.SimpleNamespace(size=4, apply=abs)
    image = tf.random.stateless_uniform([4, 4, 3], (1, 2), 0, 255)
    have_moments = set()
    for name in NORMALIZATIONS:
        found = normalization.get(name, zca=zca)
        assert callable(found.apply)
        if found.moments:
            have_moments.add(name)
            mean, std = map(np.array, found.moments)
            np.testing.assert_allclose(found.apply(image), (image - mean) / std, atol=1e-4)
    assert have_moments == {"inception", "vgg", "lenet", "torch"}
    assert get("inception", equalize=True).moments is None
    assert get("inception", fit="stretch").moments == get("inception").moments
    assert get("inception", fit="stretch").crop != get("inception").crop
