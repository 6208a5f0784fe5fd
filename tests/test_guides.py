"""The commands of the guides in docs/, as they stand, on small drawn data in the same folders.

Changed are only the sizes: fewer steps, fewer pixels, and a few layers for the large nets.
"""

import json
import re
import shlex
import shutil

import numpy as np
import pytest
import scipy.io
from PIL import Image

from datasets import sample
from tests.conftest import ROOT, run_script, shorten_mobilenet
from tests.exports.tiny import export_quickly

_ZOO = ROOT / "tests/fixtures/slim_parity/checkpoints/zoo_v1/mobilenet_v1_0.25_128.ckpt"
# Word in a guide → what stands for it here.
_SMALLER = {
    "inception_v3.ckpt": str(_ZOO),
    "--checkpoint_path=pretrained": f"--checkpoint_path={_ZOO}",
    "inception_v3": "mobilenet_v1_025",
    "vgg_16": "mobilenet_v1_025",
    "mobilenet_v1": "mobilenet_v1_025",
}
_SCOPES = {
    "InceptionV3/Logits,InceptionV3/AuxLogits": "MobilenetV1/Logits",
    "InceptionV3/Logits": "MobilenetV1/Logits",
}
_STEPS = ("--max_number_of_steps=2", "--batch_size=4", "--eval_every_n_steps=2")


def commands(guide: str) -> list[list[str]]:
    """The words of each command that the guide's bash blocks hold."""
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


def _smaller(word: str) -> str:
    flag, equals, value = word.partition("=")
    if word in _SMALLER:
        return _SMALLER[word]
    return flag + equals + _SCOPES.get(value, _SMALLER.get(value, value))


def _quick() -> None:
    shorten_mobilenet()
    export_quickly()


def _run(guide: str, folder, **more: tuple[str, ...]) -> None:
    """Runs a guide's commands in a folder; `more` are words that make a script's work small."""
    for python, script, *words in commands(guide):
        assert python == "python"
        words = [*map(_smaller, words), *more.get(script.removesuffix(".py"), ())]
        if "--recipe=quick_transfer" in words:
            words += ("--model_name=mobilenet_v1_025", f"--checkpoint_path={_ZOO}")
        done = run_script(script, *words, cwd=folder, first=_quick)
        assert done.returncode == 0, (script, words, done.stdout[-2000:], done.stderr[-2000:])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The sample's pictures and annotations, five of each of five kinds."""
    folder = tmp_path_factory.mktemp("drawn") / "sample"
    sample.draw(str(folder), images_per_class=6)
    return folder


def _by_class(drawn):
    """Class → stems of its pictures."""
    found = {}
    for annotation in sorted((drawn / "annotations").glob("*.xml")):
        label = re.search(r"<name>(\w+)</name>", annotation.read_text())[1]
        found.setdefault(label, []).append(annotation.stem)
    return found


def _as_jpeg(drawn, stem, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    (source,) = (drawn / "images").glob(f"{stem}.*")
    Image.open(source).convert("RGB").save(path)


def test_dogs(drawn, tmp_path):
    names = {"train": [], "test": []}
    for number, (label, stems) in enumerate(_by_class(drawn).items()):
        for i, stem in enumerate(stems):
            name = f"n{number:08}-{label}/n{number:08}_{i}"
            _as_jpeg(drawn, stem, tmp_path / f"Images/{name}.jpg")
            annotation = tmp_path / "Annotation" / name
            annotation.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(drawn / f"annotations/{stem}.xml", annotation)
            text = annotation.read_text()
            annotation.write_text(re.sub(r"<filename>.*?</", f"<filename>{name[-11:]}</", text))
            names["test" if i == 5 else "train"].append(f"{name}.jpg")
    for split, listed in names.items():
        cells = np.empty((len(listed), 1), object)
        cells[:, 0] = [np.array([name]) for name in listed]
        scipy.io.savemat(tmp_path / f"{split}_list.mat", {"file_list": cells})
    _as_jpeg(drawn, next(iter(_by_class(drawn).values()))[0], tmp_path / "new_pictures/1.jpg")
    _run(
        "dogs.md",
        tmp_path,
        train_image_classifier=(*_STEPS, "--train_image_size=32"),
        tune_image_classifier=("--max_trials=1", "--train_image_size=32", "--num_epochs=1"),
    )
    assert (tmp_path / "page.html").stat().st_size and (tmp_path / "sheet.png").stat().st_size
    metrics = json.loads((tmp_path / "transfer_eval/metrics.json").read_text())
    assert metrics["num_examples"] == len(names["test"])


def test_flowers(drawn, tmp_path):
    names = {}
    for number, (label, stems) in enumerate(_by_class(drawn).items(), 1):
        names[str(number)] = f"{label} flower"
        for stem, split in zip(stems, ("train",) * 4 + ("valid", "test"), strict=True):
            _as_jpeg(drawn, stem, tmp_path / f"flowers/{split}/{number}/image_{stem}.jpg")
    (tmp_path / "cat_to_name.json").write_text(json.dumps(names))
    _run("flowers.md", tmp_path, train_image_classifier=(*_STEPS, "--train_image_size=32"))
    plots = list((tmp_path / "flowers_plot").glob("*.png"))
    assert len(plots) == 1
    with Image.open(plots[0]) as plot:
        assert plot.size[0] > 200


def test_faces(drawn, tmp_path):
    for kind in ("images", "annotations"):
        shutil.copytree(drawn / kind, tmp_path / kind)
    lines = (f"{i}:{name}\n" for i, name in enumerate(sorted(_by_class(drawn))))
    (tmp_path / "classes.txt").write_text("".join(lines))
    steps = ("--max_number_of_steps=2", "--train_image_size=32")
    _run(
        "faces.md",
        tmp_path,
        train_image_classifier=steps,
        eval_image_classifier=("--eval_image_size=32",),
    )
    rows = (tmp_path / "named.csv").read_text().splitlines()
    assert len(rows) == 1 + 30


def test_migrate(drawn, tmp_path):
    for label, stems in _by_class(drawn).items():
        for stem in stems:
            _as_jpeg(drawn, stem, tmp_path / f"folders/{label}/{stem}.jpg")
    shutil.copy(tmp_path / f"folders/{label}/{stem}.jpg", tmp_path / "photo.jpg")
    made = run_script(
        "convert_data.py",
        *("--dataset_name=flowers", "--output_dir=flowers_records", "--image_dir=folders"),
        cwd=tmp_path,
    )
    assert made.returncode == 0, made.stderr
    _run(
        "migrate.md",
        tmp_path,
        train_image_classifier=(
            "--max_number_of_steps=2",
            "--batch_size=4",
            "--train_image_size=32",
        ),
    )
    assert (tmp_path / "graph.pb").stat().st_size
    assert (tmp_path / "retrained_model/labels.txt").read_text().startswith("0:bee")
