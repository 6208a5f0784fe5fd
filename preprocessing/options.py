"""Options of the preprocessing: recipe, pixels, and what training draws."""

from foundation.errors import UsageError
from foundation.options import Options, option, options

FITS = ("crop", "letterbox", "stretch")
NORMALIZATIONS = ("inception", "vgg", "lenet", "torch", "caffe", "whiten", "zca")
FILL_MODES = ("nearest", "constant", "reflect", "wrap")
# Of ImageNet, as PyTorch's models take them: channels in 0..1.
TORCH_MEANS = (0.485, 0.456, 0.406)
TORCH_STDS = (0.229, 0.224, 0.225)
# RandAugment's magnitudes go from 0 to this.
LARGEST_MAGNITUDE = 10.0


@options
class RecipeOptions(Options):
    """Preprocessing."""

    preprocessing_name: str | None = option(
        None,
        "Preprocessing recipe: inception, vgg, cifarnet (for small images), lenet or addons, or "
        "the name of a net for its recipe; unset means the one of the net.",
    )
    use_grayscale: bool | None = option(None, "Turn the images to one channel.")


@options
class PixelsOptions(Options):
    """Pixels, in training, evaluation and serving alike."""

    fit: str = option(
        "crop",
        "How images come to size: as the recipe crops; whole in proportion on black; whole, "
        "stretched.",
        choices=FITS,
    )
    normalization: str | None = option(
        None,
        "What the net is fed in place of the recipe's own: torch: less --means, by --stds; caffe: "
        "BGR less means; whiten: each image to mean 0 and deviation 1; zca: whitened as "
        "convert_data.py --zca_size fitted it.",
        choices=NORMALIZATIONS,
    )
    means: tuple[float, ...] | None = option(
        None, "Of --normalization=torch, in 0..1; unset: 0.485,0.456,0.406.", bounds=(0, None)
    )
    stds: tuple[float, ...] | None = option(
        None, "Of --normalization=torch, in 0..1; unset: 0.229,0.224,0.225.", bounds=(0, None)
    )
    equalize: bool = option(False, "Spread each channel's histogram evenly.")

    def check(self) -> None:
        if self.normalization != "torch" and (self.means or self.stds):
            raise UsageError("--means and --stds need --normalization=torch.")
        for name in ("means", "stds"):
            value = getattr(self, name)
            if value is not None and (len(value) != 3 or (name == "stds" and min(value) <= 0)):
                shown = ",".join(map(str, value))
                kind = "three numbers" if name == "means" else "three numbers above 0"
                raise UsageError(f"write {kind}, separated by commas.", option=name, value=shown)


@options
class AugmentationOptions(Options):
    """What training draws of an image.

    Names and meanings are those of Keras' ImageDataGenerator.
    """

    augment: bool = option(
        True,
        "Augment training images (crop, mirror, colour); false prepares them as evaluation does.",
    )
    rotation_range: float = option(0.0, "Degrees of random rotation, either way.", bounds=(0, 180))
    width_shift_range: float = option(
        0.0, "Random shift: part of the width below 1, else pixels.", bounds=(0, None)
    )
    height_shift_range: float = option(
        0.0, "Random shift up and down: part of the height, or pixels from 1.", bounds=(0, None)
    )
    shear_range: float = option(0.0, "Degrees of random shear, either way.", bounds=(0, 90))
    zoom_range: float = option(0.0, "Random zoom from 1 - this to 1 + this.", bounds=(0, 0.99))
    horizontal_flip: bool = option(False, "Mirror half of the images (most recipes do it).")
    vertical_flip: bool = option(False, "Turn half of the images upside down.")
    brightness_range: tuple[float, ...] | None = option(
        None, "FROM,TO: random factor on all values, as 0.8,1.2.", bounds=(0, None)
    )
    fill_mode: str = option(
        "nearest",
        "What lies outside of a rotated, shifted, sheared or zoomed image.",
        choices=FILL_MODES,
    )
    randaugment_layers: int = option(
        0, "RandAugment: changes an image (2 is usual); 0: none.", bounds=(0, None)
    )
    randaugment_magnitude: float = option(
        9.0, "RandAugment: their strength.", bounds=(0, LARGEST_MAGNITUDE)
    )
    random_erasing: float = option(0.0, "Probability of random erasing.", bounds=(0, 1))
    mixup_alpha: float = option(0.0, "MixUp with shares of Beta(a, a); 0: none.", bounds=(0, None))
    cutmix_alpha: float = option(
        0.0, "CutMix with shares of Beta(a, a); 0: none.", bounds=(0, None)
    )

    def check(self) -> None:
        drawn = self.changes_images or self.mixes_images
        if drawn and not self.augment:
            raise UsageError("--augment=false leaves no augmentation: leave its options out.")
        factors = self.brightness_range
        if factors is None:
            return
        shown = ",".join(map(str, factors))
        if len(factors) != 2:
            raise UsageError("write two numbers.", option="brightness_range", value=shown)
        if factors[0] > factors[1]:
            raise UsageError(
                "write the smaller factor first.", option="brightness_range", value=shown
            )

    @property
    def changes_images(self) -> bool:
        """Whether single images are changed in other ways than the recipe's own."""
        changes = (
            self.rotation_range,
            self.width_shift_range,
            self.height_shift_range,
            self.shear_range,
            self.zoom_range,
            self.horizontal_flip,
            self.vertical_flip,
            self.brightness_range,
            self.randaugment_layers,
            self.random_erasing,
        )
        return any(changes)

    @property
    def needs_pixels(self) -> bool:
        """Whether the changes make sense for values in 0..255 only."""
        return bool(self.randaugment_layers or self.brightness_range)

    @property
    def mixes_images(self) -> bool:
        """Whether images of a batch are mixed with each other."""
        return bool(self.mixup_alpha or self.cutmix_alpha)


# A recipe as it is.
PLAIN_PIXELS = PixelsOptions()
NO_AUGMENTATION = AugmentationOptions()


@options
class PreviewOptions(Options):
    """Preview."""

    preview: str | None = option(
        None,
        "Write a picture here, of images and of what training makes of each, and stop.",
        path=True,
    )
