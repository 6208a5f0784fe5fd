"""Draws the small sample dataset of the demo and the tests: pictures with Pascal-VOC annotations.

    python -m datasets.sample --output_dir=sample

Five creatures in any place, size, colour, turn and light, on any background; some pictures hold a
second, smaller one of another kind. Colours say nothing of the class; only shape and markings do.
"""

import argparse
import colorsys
import json
import math
import os
import random
import shutil
from collections.abc import Callable, Iterator

import numpy as np
from lxml import etree
from PIL import Image, ImageDraw, ImageFilter

from foundation.errors import InputError

IMAGES = "images"
ANNOTATIONS = "annotations"
_NOTE = "sample.json"  # written last; says what was drawn
_FINER = 3  # outlines are drawn this many times as large and shrunk, for smooth edges

Point = tuple[float, float]
Outline = list[Point]  # in the square from -1 to 1


def draw(output_dir: str, images_per_class: int = 120, seed: int = 0) -> bool:
    """Draws the dataset into images/ and annotations/ under a folder.

    Returns:
      False where the same dataset was there already, and nothing was done.

    Raises:
      InputError: something else is in the folder.
    """
    note = {"classes": list(_CLASSES), "images_per_class": images_per_class, "seed": seed}
    if os.path.isdir(output_dir) and os.listdir(output_dir):
        if _read_note(output_dir) == note:
            return False
        raise InputError(
            "it holds something else than this sample.",
            option="output_dir",
            value=output_dir,
            remedy="Remove it, or choose another folder.",
        )
    # All of it appears at once: a run that was killed leaves nothing that looks finished. The name
    # until then is hidden, so that it is no folder of the user's.
    folder, name = os.path.split(os.path.abspath(output_dir))
    writing = os.path.join(folder, f".{name}.writing")
    shutil.rmtree(writing, ignore_errors=True)
    for name in (IMAGES, ANNOTATIONS):
        os.makedirs(os.path.join(writing, name))
    labels = list(_CLASSES) * images_per_class
    rng = random.Random(seed)
    rng.shuffle(labels)
    for i, label in enumerate(labels):
        picture, objects = _picture(label, rng)
        stem = f"{i:05d}"
        name = f"{stem}.png" if rng.random() < 0.3 else f"{stem}.jpg"
        # Only JPEG has a quality; PNG ignores it.
        picture.save(os.path.join(writing, IMAGES, name), quality=rng.randint(70, 95))
        annotation = os.path.join(writing, ANNOTATIONS, f"{stem}.xml")
        _annotation(name, picture.size, objects).write(annotation, pretty_print=True)
    with open(os.path.join(writing, _NOTE), "w", encoding="utf-8") as file:
        json.dump(note, file)
    if os.path.isdir(output_dir):
        os.rmdir(output_dir)  # empty, as seen above
    os.rename(writing, output_dir)
    return True


def _read_note(folder: str) -> dict | None:
    try:
        with open(os.path.join(folder, _NOTE), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def _picture(label: str, rng: random.Random) -> tuple[Image.Image, list[tuple[str, tuple]]]:
    """One picture, and its objects as class names with (left, upper, right, lower) in pixels."""
    size = rng.randint(96, 160), rng.randint(96, 160)
    light = rng.random() < 0.5
    picture = _background(size, light, rng)
    radius = min(size) * rng.uniform(0.35, 0.47)
    centre = tuple(rng.uniform(radius, side - radius) for side in size)
    things = [(label, centre, radius)]
    if rng.random() < 0.35:  # there is room in few
        other = rng.choice([name for name in _CLASSES if name != label])
        things += _second(other, centre, radius, size, rng)
    objects = []
    for name, place, reach in things:
        body, markings = _masks(name, size, place, reach, rng)
        picture.paste(_surface(size, not light, rng), mask=body)
        picture.paste(_surface(size, light, rng), mask=markings)
        objects.append((name, body.getbbox()))
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
    return _with_noise(picture, rng.uniform(2, 12), rng), objects


def _second(
    name: str, centre: tuple, radius: float, size: tuple[int, int], rng: random.Random
) -> Iterator[tuple[str, tuple, float]]:
    """A smaller object that doesn't touch the first, if there is room for one."""
    small = radius * rng.uniform(0.3, 0.5)
    for _ in range(20):
        place = tuple(rng.uniform(small, side - small) for side in size)
        if math.dist(place, centre) > 1.1 * (radius + small):
            yield name, place, small
            return


def _masks(
    name: str, size: tuple[int, int], place: tuple, radius: float, rng: random.Random
) -> tuple[Image.Image, Image.Image]:
    """Where body and markings of a creature cover the picture, 0 to 255."""
    turn = rng.uniform(-0.4, 0.4)
    narrow = rng.uniform(0.85, 1.0)  # seen a little from the side
    cos, sin = math.cos(turn), math.sin(turn)

    def on_grid(point: Point) -> Point:
        x, y = point[0] * radius, point[1] * radius * narrow
        return (place[0] + cos * x - sin * y) * _FINER, (place[1] + sin * x + cos * y) * _FINER

    masks = []
    for outlines in _CREATURES[name]():
        mask = Image.new("L", (size[0] * _FINER, size[1] * _FINER))
        pen = ImageDraw.Draw(mask)
        for outline in outlines:
            pen.polygon([on_grid(point) for point in outline], fill=255)
        masks.append(mask.resize(size, Image.Resampling.BOX))
    return masks[0], masks[1]


# Each gives the outlines of its body and of its markings.


def _bee() -> tuple[list[Outline], list[Outline]]:
    stripes = []
    for middle in (-0.55, 0.0, 0.55):
        left, right = middle - 0.13, middle + 0.13
        reach = [0.6 * math.sqrt(1 - x * x) for x in (left, right)]
        stripes.append([(left, -reach[0]), (right, -reach[1]), (right, reach[1]), (left, reach[0])])
    return [_oval(1.0, 0.6)], stripes


def _fish() -> tuple[list[Outline], list[Outline]]:
    tail = [(-0.35, 0.0), (-1.0, -0.6), (-0.8, 0.0), (-1.0, 0.6)]
    return [_oval(0.7, 0.42, x=0.3), tail], [_oval(0.1, 0.1, x=0.7, y=-0.1)]


def _ladybird() -> tuple[list[Outline], list[Outline]]:
    spots = [_oval(0.19, 0.19, x, y) for x in (-0.45, 0.45) for y in (-0.45, 0.45)]
    return [_oval(0.95, 0.95)], [*spots, _oval(0.19, 0.19)]


def _snail() -> tuple[list[Outline], list[Outline]]:
    ring = [*_oval(0.7, 0.7), *reversed(_oval(0.42, 0.42))]
    return [_oval(1.0, 1.0)], [ring]


def _starfish() -> tuple[list[Outline], list[Outline]]:
    points = []
    for i in range(10):
        angle, reach = math.pi * i / 5, 0.4 if i % 2 else 1.0
        points.append((reach * math.cos(angle), reach * math.sin(angle)))
    return [points], []


_CREATURES: dict[str, Callable[[], tuple[list[Outline], list[Outline]]]] = {
    "bee": _bee,
    "fish": _fish,
    "ladybird": _ladybird,
    "snail": _snail,
    "starfish": _starfish,
}
_CLASSES = tuple(sorted(_CREATURES))


def _oval(x_radius: float, y_radius: float, x: float = 0.0, y: float = 0.0) -> Outline:
    angles = [2 * math.pi * i / 40 for i in range(41)]
    return [(x + x_radius * math.cos(a), y + y_radius * math.sin(a)) for a in angles]


def _background(size: tuple[int, int], light: bool, rng: random.Random) -> Image.Image:
    """A run from one colour to another, or a coarse pattern of two."""
    if rng.random() < 0.6:
        return _surface(size, light, rng)
    cells = rng.randint(3, 8), rng.randint(3, 8)
    pattern = Image.new("L", cells)
    pattern.putdata([rng.randint(0, 255) for _ in range(cells[0] * cells[1])])
    pattern = pattern.resize(size, Image.Resampling.BICUBIC)
    first, second = (Image.new("RGB", size, _colour(light, rng)) for _ in range(2))
    return Image.composite(first, second, pattern)


def _surface(size: tuple[int, int], light: bool, rng: random.Random) -> Image.Image:
    ramp = Image.linear_gradient("L").rotate(rng.choice([0, 90, 180, 270])).resize(size)
    first, second = (Image.new("RGB", size, _colour(light, rng)) for _ in range(2))
    return Image.composite(first, second, ramp)


def _colour(light: bool, rng: random.Random) -> tuple[int, int, int]:
    """Any hue; light and dark ones are far enough apart to see one on the other."""
    lightness = rng.uniform(0.62, 0.92) if light else rng.uniform(0.08, 0.38)
    red, green, blue = colorsys.hls_to_rgb(rng.random(), lightness, rng.uniform(0.1, 0.9))
    return round(255 * red), round(255 * green), round(255 * blue)


def _with_noise(picture: Image.Image, deviation: float, rng: random.Random) -> Image.Image:
    pixels = np.asarray(picture, np.float32)
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, deviation, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def _annotation(name: str, size: tuple[int, int], objects: list[tuple[str, tuple]]):
    root = etree.Element("annotation")
    _add(root, "folder", IMAGES)
    _add(root, "filename", name)
    stated = _add(root, "size")
    for tag, value in (("width", size[0]), ("height", size[1]), ("depth", 3)):
        _add(stated, tag, value)
    for label, box in objects:
        thing = _add(root, "object")
        _add(thing, "name", label)
        _add(thing, "difficult", 0)
        sides = _add(thing, "bndbox")
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            _add(sides, tag, value)
    return etree.ElementTree(root)


def _add(parent, tag: str, value: object = None):
    element = etree.SubElement(parent, tag)
    element.text = None if value is None else str(value)
    return element


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m datasets.sample", description=__doc__)
    parser.add_argument("--output_dir", required=True, help="folder to draw into")
    parser.add_argument("--images_per_class", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        drawn = draw(arguments.output_dir, arguments.images_per_class, arguments.seed)
    except (InputError, OSError) as error:
        parser.exit(1, f"{parser.prog}: error: {error}\n")
    total = arguments.images_per_class * len(_CLASSES)
    what = "Drew" if drawn else "Already drawn:"
    print(f"{what} {total} pictures of {len(_CLASSES)} classes in {arguments.output_dir}")


if __name__ == "__main__":
    main()
