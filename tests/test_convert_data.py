"""convert_data.py through its command line: every source, hostile input, kills, full disks."""

import csv
import json
import os
import pathlib
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib

import pytest
import tensorflow as tf
from PIL import Image

from datasets import sample, schema

_ROOT = pathlib.Path(__file__).parent.parent
_SCRIPT = str(_ROOT / "convert_data.py")


def _start(*words, **options):
    return subprocess.Popen(
        [sys.executable, _SCRIPT, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def _run(*words, code=0, **options):
    """Runs the script; returns what it prints and what it says on standard error."""
    process = _start(*words, **options)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The sample dataset, small."""
    folder = tmp_path_factory.mktemp("pictures") / "sample"
    sample.draw(str(folder), images_per_class=8)
    return folder


def test_what_is_said_while_a_bar_is_shown_has_a_line_of_its_own(pictures, tmp_path):
    table = tmp_path / "labels.csv"
    names = sorted(path.name for path in (pictures / "images").iterdir())
    table.write_text("".join(f"{name},{'ab'[i % 2]}\n" for i, name in enumerate(names)))
    words = [f"--image_dir={pictures / 'images'}", f"--csv_file={table}", "--dry_run"]
    run = subprocess.run(
        [sys.executable, _SCRIPT, *words, f"--output_dir={tmp_path / 'out'}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
    )
    assert f"\r{table}: it has no header" in run.stdout.decode()


def _records(*files):
    records = tf.data.TFRecordDataset([str(file) for file in files])
    return [schema.parse_example(record) for record in records]


def _bytes(folder):
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}


def _rejected(path):
    with open(path, newline="") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def _voc(pictures):
    return f"--image_dir={pictures}/images", f"--annotations_dir={pictures}/annotations"


def test_help_answers_at_once_without_tensorflow():
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{_SCRIPT!r}, '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: print('tensorflow' in sys.modules, 'PIL' in sys.modules, 'numpy' in sys.modules)"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=_ROOT)
    # Half a second on a machine with nothing else to do; a suite shares it.
    assert time.monotonic() - start < 3
    assert done.stdout.endswith("False False False\n")
    for flag in ("--image_dir", "--chemin_tfrecords", "--multiple_objects", "--num_workers"):
        assert flag in done.stdout


def test_annotations_become_a_dataset(pictures, tmp_path):
    out, err = _run(*_voc(pictures), "--dataset_name=creatures", f"--output_dir={tmp_path}/out")
    assert "creatures: 40 examples of 5 classes" in out
    assert "starfish" in out and "validation" in out
    command = f"--dataset_dir={tmp_path}/out --dataset_name=creatures --train_dir=creatures_train"
    assert f"python train_image_classifier.py {command}" in out
    assert "converting: 100%" in err and "40/40" in err and "images/s" in err
    files = sorted((tmp_path / "out").glob("creatures_*-00000-of-00001.tfrecord"))
    assert [file.name.split("_")[1].split("-")[0] for file in files] == ["train", "validation"]
    examples = _records(*files)
    assert len(examples) == 40
    assert all(len(example["boxes"]) >= 1 for example in examples)
    assert (tmp_path / "out" / "labels.txt").read_text() == (
        "0:bee\n1:fish\n2:ladybird\n3:snail\n4:starfish\n"
    )


def test_the_same_command_again_has_nothing_to_do(pictures, tmp_path):
    words = (*_voc(pictures), f"--output_dir={tmp_path}/out")
    _run(*words)
    before = _bytes(tmp_path / "out")
    out, _ = _run(*words)
    assert "Already converted, nothing to do" in out
    assert "out: 40 examples of 5 classes" in out
    _, err = _run(*words, "--max_side=64", code=1)
    assert "is there already, a dataset made with --max_side=0. Replace it with --overwrite" in err
    assert _bytes(tmp_path / "out") == before
    _run(*words, "--max_side=64", "--overwrite")
    assert _bytes(tmp_path / "out") != before


def test_the_command_line_of_the_face_classification_project(pictures, tmp_path):
    classes = tmp_path / "classes.txt"
    classes.write_text("0:starfish\n1:snail\n2:ladybird\n3:fish\n4:bee\n")
    pairs, records = tmp_path / "pairs.csv", tmp_path / "faces.tfrecords"
    words = [
        *("--image_dir", f"{pictures}/images", "--chemin_csv", pairs),
        *("--chemin_tfrecords", records, "--labels_dir", f"{pictures}/annotations"),
        *("--classes", classes),
    ]
    out, _ = _run(*words)
    assert f"Wrote {pairs}" in out
    assert f"--tfrecord_file={records}" in out
    with open(pairs, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["filename"] for row in rows}) == 40 and rows[0]["label"] in out
    examples = _records(records)
    assert len(examples) == 40
    names = ["starfish", "snail", "ladybird", "fish", "bee"]
    assert {names[e["label"]] for e in examples} == set(names)
    assert all(names[e["label"]] == e["text"].numpy().decode() for e in examples)
    assert (tmp_path / "faces.tfrecords.labels.txt").read_text() == classes.read_text()
    out, _ = _run(*words)
    assert "Already converted" in out and "is there and is used" in out


def test_what_is_refused_once_is_refused_again(pictures, tmp_path):
    annotations = sorted((pictures / "annotations").rglob("*.xml"))[:12]
    (tmp_path / "xml").mkdir()
    for i, path in enumerate(annotations):
        broken = b"<annotation>" if i < 8 else path.read_bytes()
        (tmp_path / "xml" / path.name).write_bytes(broken)
    table = tmp_path / "pairs.csv"
    words = [f"--image_dir={pictures}/images", f"--annotations_dir={tmp_path}/xml"]
    words += [f"--csv_file={table}", f"--output_file={tmp_path}/o.tfrecord"]
    for _ in range(2):
        _, err = _run(*words, "--on_error=fail", code=1)
        assert "Stopped by --on_error=fail" in err
        assert [path.name for path in tmp_path.iterdir()] == ["xml"]  # hidden ones neither
    for _ in range(2):
        _, err = _run(*words, code=1)
        assert "8 of 12 photographs are not usable" in err
        assert table.exists()
    _, err = _run(*words, "--on_error=fail", code=1)
    assert "Stopped by --on_error=fail" in err
    assert not (tmp_path / "o.tfrecord").exists()


def test_a_csv_that_exists_is_used_as_it_is(pictures, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("".join(f"{i:05d},{'ab'[i % 2]}\n" for i in range(20)))
    _run(*_voc(pictures), f"--csv_file={table}", f"--output_file={tmp_path}/o.tfrecord")
    assert len(_records(tmp_path / "o.tfrecord")) == 20
    assert (tmp_path / "o.tfrecord.labels.txt").read_text() == "0:a\n1:b\n"


def test_class_folders_with_splits(pictures, tmp_path):
    for split, numbers in (("train", range(6)), ("val", range(6, 8)), ("test", range(8, 10))):
        for i in numbers:
            folder = tmp_path / "images" / split / "ab"[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), (i, 0, 0)).save(folder / f"{i}.png")
    out, _ = _run(f"--image_dir={tmp_path}/images", f"--output_dir={tmp_path}/out")
    content = json.loads((tmp_path / "out" / "dataset.json").read_text())
    counts = {split: part["num_examples"] for split, part in content["splits"].items()}
    assert counts == {"train": 6, "validation": 2, "test": 2}


def test_options_shape_the_examples(pictures, tmp_path):
    _run(
        *_voc(pictures),
        f"--output_file={tmp_path}/o.tfrecord",
        "--multiple_objects=each",
        "--crop_to_box",
        "--box_margin=0.1",
        "--max_side=32",
    )
    examples = _records(tmp_path / "o.tfrecord")
    assert len(examples) > 40  # some pictures hold two
    for example in examples:
        shape = tf.io.decode_image(example["encoded"]).shape
        assert max(shape[:2]) <= 32
        assert len(example["boxes"]) == 1
        assert example["boxes"][0][0] < 0.2 and example["boxes"][0][2] > 0.8


def test_a_dry_run_writes_nothing_at_all(pictures, tmp_path):
    words = (*_voc(pictures), f"--csv_file={tmp_path}/pairs.csv", f"--output_dir={tmp_path}/out")
    out, _ = _run(*words, "--dry_run")
    assert "out: 40 examples of 5 classes" in out and "Nothing was written" in out
    assert list(tmp_path.iterdir()) == []


def _hostile(folder):
    """Good pictures of two classes, and one file of every bad sort; returns the bad ones."""
    images, annotations = folder / "images", folder / "annotations"
    images.mkdir()
    annotations.mkdir()
    (folder / "secret.jpg").write_bytes(b"secret")

    def annotate(stem, filename, label="cat", box=(1, 1, 20, 20), start="<annotation>"):
        sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        text = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
        (annotations / f"{stem}.xml").write_text(
            f"{start}<filename>{filename}</filename><object><name>{label}</name>"
            f"<bndbox>{text}</bndbox></object></annotation>"
        )

    for i in range(40):
        Image.new("RGB", (40, 30), (i, 9 * i % 256, 0)).save(images / f"{i}.jpg")
        annotate(i, f"{i}.jpg", label=("cat", "dog")[i % 2])
    good = (images / "0.jpg").read_bytes()
    header = b"IHDR" + struct.pack(">II", 60_000, 60_000) + b"\x08\x02\0\0\0"
    chunk = b"\0\0\0\x0d" + header + struct.pack(">I", zlib.crc32(header))
    for name, data in {
        "truncated.jpg": good[:-100],
        "empty.jpg": b"",
        "html.jpg": b"<!DOCTYPE html><html></html>",
        "bomb.png": b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IEND\xaeB`\x82",
        "text.jpg": b"hello",
    }.items():
        (images / name).write_bytes(data)
        annotate(name.split(".")[0], name)
    os.mkfifo(images / "pipe.jpg")
    annotate("pipe", "pipe.jpg")
    os.symlink(folder / "secret.jpg", images / "link.jpg")
    annotate("link", "link.jpg")
    annotate("gone", "gone.jpg")
    annotate("up", "../secret.jpg")
    annotate("absolute", folder / "secret.jpg")
    annotate("inverted", "1.jpg", "dog", box=(20, 1, 1, 20))
    annotate("nan", "1.jpg", "dog", box=("nan", 1, 9, 20))
    annotate("outside", "1.jpg", "dog", box=(50, 50, 90, 90))
    entity = f'<!DOCTYPE a [<!ENTITY x SYSTEM "file://{folder}/secret.jpg">]><annotation>'
    annotate("external", "1.jpg", label="&x;", start=entity)
    laughs = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    bomb = f'<!DOCTYPE a [<!ENTITY l0 "ha">{laughs}]><annotation>'
    annotate("laughs", "1.jpg", label="&l9;", start=bomb)
    (annotations / "void.xml").write_text("")
    (annotations / "broken.xml").write_text("<annotation><object>")
    return {
        "truncated.jpg": "damaged image",
        "empty.jpg": "empty file",
        "html.jpg": "not an image",
        "bomb.png": "too many pixels",
        "text.jpg": "not an image",
        "pipe.jpg": "not a file",
        "link.jpg": "leaves --image_dir",
        "gone.xml": "missing photograph",
        "up.xml": "leaves --image_dir",
        "absolute.xml": "leaves --image_dir",
        "inverted.xml": "box",
        "nan.xml": "box",
        "1.jpg": "box outside the image",
        "external.xml": "hostile annotation",
        "laughs.xml": "hostile annotation|malformed annotation",
        "void.xml": "empty annotation",
        "broken.xml": "malformed annotation",
    }


def test_hostile_input_is_listed_counted_and_stops_nothing(tmp_path):
    expected = _hostile(tmp_path)
    words = [f"--image_dir={tmp_path}/images", f"--annotations_dir={tmp_path}/annotations"]
    out, _ = _run(*words, f"--output_dir={tmp_path}/out")
    found = _rejected(tmp_path / "out" / "rejected.csv")
    assert found.keys() == expected.keys()
    for file, kinds in expected.items():
        assert found[file].split(":")[0] in kinds.split("|"), found[file]
    content = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert content["num_examples"] == 40
    assert sum(content["rejected"].values()) == len(expected)
    assert "not an image (2)" in out and "truncated.jpg: damaged image: " in out
    assert b"secret" not in b"".join(_bytes(tmp_path / "out").values()).replace(b"secret.jpg", b"")
    _, err = _run(*words, f"--output_dir={tmp_path}/other", "--on_error=fail", code=1)
    assert err.strip().splitlines()[-1].startswith("convert_data.py: error: absolute.xml: leaves")
    assert list((tmp_path / "other").glob("*")) == []


_XML = (
    "<annotation><filename>{}</filename><object><name>{}</name><bndbox><xmin>4</xmin>"
    "<ymin>4</ymin><xmax>40</xmax><ymax>40</ymax></bndbox></object></annotation>"
)


def test_annotations_in_split_folders_without_classes_are_used_and_that_is_said(tmp_path):
    for split, count in (("train", 6), ("valid", 4), ("test", 4)):
        (tmp_path / "images" / split).mkdir(parents=True)
        for i in range(count):
            stem = tmp_path / "images" / split / f"{split}{i}"
            Image.new("RGB", (64, 48), (9 * i, 0, 0)).save(f"{stem}.jpg")
            stem.with_suffix(".xml").write_text(_XML.format(f"{split}{i}.jpg", "ab"[i % 2]))
    out, _ = _run(f"--image_dir={tmp_path}/images", f"--output_dir={tmp_path}/out")
    assert "Labels come from the .xml files among the photographs: its folders are splits" in out
    content = json.loads((tmp_path / "out" / "dataset.json").read_text())
    counts = {split: part["classes"] for split, part in content["splits"].items()}
    assert counts == {
        "test": {"a": 2, "b": 2},
        "train": {"a": 3, "b": 3},
        "validation": {"a": 2, "b": 2},
    }
    for path in (tmp_path / "images").rglob("*.xml"):
        path.unlink()
    _, err = _run(f"--image_dir={tmp_path}/images", f"--output_dir={tmp_path}/more", code=1)
    assert "splits that hold no folder per class: test, train, valid. Give the labels by" in err


def test_photographs_without_annotation_are_counted_and_may_take_their_folders_name(tmp_path):
    (tmp_path / "xml").mkdir()
    for i in range(20):
        folder = tmp_path / "images" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (9 * i, 0, 0)).save(folder / f"{i}.jpg")
        if i < 6:
            (tmp_path / "xml" / f"{i}.xml").write_text(_XML.format(f"{i}.jpg", "ab"[i % 2]))
    words = [f"--image_dir={tmp_path}/images", f"--annotations_dir={tmp_path}/xml"]
    words += ["--validation_fraction=0", f"--output_dir={tmp_path}/out"]
    out, _ = _run(*words)
    assert "out: 6 examples of 2 classes" in out and "no annotation (14)" in out
    assert "Warning: 14 photographs have no annotation and are left out" in out
    assert "flags" in (content := json.loads((tmp_path / "out" / "dataset.json").read_text()))
    assert "unannotated" not in content["flags"]
    reasons = _rejected(tmp_path / "out" / "rejected.csv")
    assert reasons["a/6.jpg"] == "no annotation: its folder is called a (--unannotated=folder)"
    out, _ = _run(*words, "--unannotated=folder", "--overwrite")
    assert "out: 20 examples of 2 classes" in out and "no annotation" not in out
    content = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert content["flags"]["unannotated"] == "folder"
    _, err = _run(*words, "--unannotated=error", "--overwrite", code=1)
    assert "--unannotated=error: " in err and "a/10.jpg has no annotation" in err


def test_file_names_that_are_no_text_are_printed_all_the_same(tmp_path):
    for i in range(4):
        (tmp_path / "images" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (i, 0, 0)).save(tmp_path / "images" / "ab"[i % 2] / f"{i}.png")
    pathlib.Path(os.fsdecode(bytes(tmp_path / "images" / "a") + b"/caf\xe9.jpg")).write_bytes(b"")
    words = (f"--image_dir={tmp_path}/images", f"--output_file={tmp_path}/o.tfrecord")
    out, _ = _run(*words, "--classes=a,b,c", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert "a/caf?.jpg: empty file" in out
    out, _ = _run(
        *(*words, "--classes=a,b,c", "--overwrite"),
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert "a/caf\ufffd.jpg: empty file" in out
    assert "Warning: no example of the classes c (1).\n" in out


def test_a_single_file_that_mixes_splits_says_so(tmp_path):
    for i, place in enumerate(("train/a", "train/b", "test/a", "test/b")):
        (tmp_path / "images" / place).mkdir(parents=True)
        Image.new("RGB", (9, 9), (i, 0, 0)).save(tmp_path / "images" / place / "1.png")
    warning = "Warning: the source's splits (test, train) are mixed in the one file"
    out, _ = _run(f"--image_dir={tmp_path}/images", f"--output_file={tmp_path}/o.tfrecord")
    assert warning in out
    out, _ = _run(f"--image_dir={tmp_path}/images/train", f"--output_file={tmp_path}/p.tfrecord")
    assert "Warning" not in out
    out, _ = _run(f"--image_dir={tmp_path}/images", f"--output_dir={tmp_path}/o")
    assert "Warning" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output_dir=o"], "--image_dir is missing"),
        (["--image_dir=."], "Give --output_dir for a dataset of shards, or --output_file"),
        (["--image_dir=.", "--output_dir=o", "--output_file=f"], "not both"),
        (["--image_dir=.", "--output_file=f", "--test_fraction=0.1"], "--test_fraction and --outp"),
        (["--image_dir=.", "--output_file=f", "--num_shards=2"], "--num_shards and --output_file"),
        (["--image_dir=.", "--output_dir=o", "--box_margin=1"], "--box_margin belongs to --crop_"),
        (["--image_dir=.", "--output_dir=o", "--dataset_name=a/b"], "--dataset_name=a/b: letters"),
        (["--image_dir=.", "--output_dir=o", "--on_error=cry"], "on_error"),
        (["--image_dir=.", "--output_dir=o", "--num_shards=0"], "num_shards"),
        (["--image_dir=.", "--output_dir=o", "--validation_fraction=2"], "validation_fraction"),
        (["--image_dir=.", "--output_dir=o", "stray"], "stray"),
    ],
)
def test_flags_that_make_no_sense_are_usage_errors(tmp_path, words, message):
    _, err = _run(*words, code=2, cwd=tmp_path)
    assert message in err and "--help" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--image_dir=gone"], "--image_dir=gone: there is no such folder"),
        (["--annotations_dir=gone"], "--annotations_dir=gone: there is no such folder"),
        (
            ["--csv_file=gone.csv", "--annotations_dir="],
            "--csv_file=gone.csv: there is no such file",
        ),
        (["--classes=gone.txt"], "--classes=gone.txt: there is no such file"),
        (["--classes=ant,"], "label not in --classes: "),
        (["--classes=twice.txt"], "--classes=twice.txt: a name is missing or there twice"),
        (["--classes=numbers.txt"], "numbers.txt: the numbers before the names must be 0 to 1"),
        (["--validation_fraction=0.5", "--test_fraction=0.5"], "nothing is left for training"),
        (["--output_dir=twice.txt"], "twice.txt cannot be written: "),
        (["--classes=latin.txt"], "latin.txt, line 2 is not in UTF-8. Save it so."),
        (
            ["--annotations_dir=", "--image_dir=.", "--output_dir=within"],
            "within lies in --image_dir, whose folders are the classes",
        ),
        (["--output_dir=twice.txt/below"], "twice.txt/below cannot be written: Not a directory"),
    ],
)
def test_bad_input_is_one_line(pictures, tmp_path, words, message):
    (tmp_path / "twice.txt").write_text("bee\nbee\n")
    (tmp_path / "latin.txt").write_bytes("bee\nk\xe4fer\n".encode("latin-1"))
    (tmp_path / "numbers.txt").write_text("1:bee\n2:fish\n")
    _, err = _run(*_voc(pictures), "--output_dir=out", *words, code=1, cwd=tmp_path)
    (line,) = [line for line in err.splitlines() if "error" in line]
    assert line.startswith("convert_data.py: error: ") and message in line
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(pictures, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    words = (*_voc(pictures), f"--output_dir={tmp_path}/out")
    _, err = _run(*words, code=1, preexec_fn=limit)
    assert "File too large" in err.splitlines()[-1]
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_that_fills_while_small_records_wait_to_be_written(tmp_path):
    for label in "ab":
        (tmp_path / "tiny" / label).mkdir(parents=True)
        for i in range(40):
            picture = Image.new("RGB", (8, 8), (i, 100 * (label == "a"), 0))
            picture.save(tmp_path / "tiny" / label / f"{i}.png")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))

    words = (f"--image_dir={tmp_path}/tiny", f"--output_dir={tmp_path}/out")
    _, err = _run(*words, code=1, preexec_fn=limit)
    assert "train-00000 cannot be written: File too large." in err.splitlines()[-1]
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A thousand pictures, which take two threads a while."""
    folder = tmp_path_factory.mktemp("many")
    noise = Image.effect_noise((400, 300), 90)
    for label in "abcd":
        (folder / label).mkdir()
        for i in range(250):
            path = folder / label / f"{i}.jpg"
            if i < 5:
                noise.rotate(i + 10 * ord(label)).save(path, quality=90)
            else:
                os.link(folder / label / f"{i % 5}.jpg", path)
    return folder


def _wait_until(condition, process):
    start = time.monotonic()
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() - start < 60
        time.sleep(0.01)


def test_a_killed_conversion_leaves_nothing_and_the_same_command_finishes_it(many, tmp_path):
    words = [f"--image_dir={many}", f"--output_dir={tmp_path}/out", "--num_workers=2"]
    _run(f"--image_dir={many}", f"--output_dir={tmp_path}/fresh", "--dataset_name=out")
    process = _start(*words)
    writing = tmp_path / "out" / ".out.writing"
    _wait_until(lambda: any(p.stat().st_size for p in writing.glob("*")), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".out.writing"]
    _run(*words)
    assert _bytes(tmp_path / "out") == _bytes(tmp_path / "fresh")


def test_ctrl_c_says_so_and_leaves_nothing(many, tmp_path):
    process = _start(f"--image_dir={many}", f"--output_dir={tmp_path}/out", start_new_session=True)
    writing = tmp_path / "out" / ".out.writing"
    _wait_until(lambda: writing.is_dir() and any(writing.iterdir()), process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped by Ctrl-C" in err and "Traceback" not in err
    assert list((tmp_path / "out").iterdir()) == []


def test_memory_does_not_grow_with_the_number_of_photographs(many, tmp_path):
    """What is left of the images that went through would be three quarters of them."""
    names = sorted(str(path.relative_to(many)) for path in many.glob("*/*.jpg"))
    peaks, sizes = [], []
    for part in (names[::4], names):
        table = tmp_path / f"{len(part)}.csv"
        table.write_text("".join(f"{name},{name[0]}\n" for name in part))
        output = tmp_path / f"{len(part)}.tfrecord"
        words = [f"--image_dir={many}", f"--csv_file={table}", f"--output_file={output}"]
        process = subprocess.Popen(
            [sys.executable, _SCRIPT, *words, "--num_workers=2"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0
        peaks.append(usage.ru_maxrss * 1024)
        sizes.append(output.stat().st_size)
    assert sizes[1] - sizes[0] > 30e6
    assert peaks[1] - peaks[0] < 0.2 * (sizes[1] - sizes[0])
