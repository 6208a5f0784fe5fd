"""Conversion by a runner of Apache Beam: the same dataset as that of this machine."""

import hashlib
import pathlib
import shutil
import socket
import sys

import numpy as np
import pytest
from PIL import Image

from datasets import buckets
from datasets.conversion import convert, shards, slices
from datasets.conversion.beam_engine import BeamEngine
from datasets.conversion.destination import Destination
from datasets.conversion.job import Job, Source
from datasets.conversion.local_engine import LocalEngine
from datasets.findings import Effect, Finding
from datasets.options import ConversionOptions, DestinationOptions
from datasets.schema import Box, LabeledImage
from datasets.sources.image_folder import MISSING, ImageFolder
from foundation.errors import InputError, Unreadable, UsageError
from runs.convert import convert as run
from runs.options import ConvertOptions
from tests.conftest import run_script

pytest.importorskip("apache_beam", reason="the extra beam is not installed")
from datasets.conversion import beam_pipelines  # noqa: E402


def _picture(name, size=(40, 30)):
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    ).resize((120, 90), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Photographs of two classes, with all that is reported of photographs."""
    folder = tmp_path_factory.mktemp("beam") / "images"
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for i in range(12):
            _picture(f"{label}{i}", (6, 5)).save(folder / label / f"{i}.jpg")
    shutil.copy(folder / "cat/0.jpg", folder / "cat/same.jpg")
    shutil.copy(folder / "cat/1.jpg", folder / "dog/of another label.jpg")
    for i in range(3):  # almost the same, and one of them of another class
        brighter = np.clip(np.asarray(_picture("cat2", (6, 5))).astype(int) + 2 + i, 0, 255)
        place = folder / ("dog" if i else "cat") / f"n{i}.jpg"
        Image.fromarray(brighter.astype(np.uint8)).save(place)
    (folder / "cat/broken.jpg").write_bytes((folder / "cat/3.jpg").read_bytes()[:300])
    (folder / "dog" / b"caf\xe9.jpg".decode(errors="surrogateescape")).write_bytes(b"")
    for i, bits in enumerate((10, 12)):
        deep = np.random.default_rng(i).integers(0, 1 << bits, (20, 20), np.uint16)
        Image.fromarray(deep).save(folder / "cat" / f"deep{i}.png")
    return folder


def _listed(images):
    """What a source says: all files, a photograph that is two examples, one that is not there."""
    for path in sorted(images.rglob("*.*")):
        yield LabeledImage(str(path.relative_to(images)), path.parent.name, (Box(1, 2, 20, 21.5),))
    yield LabeledImage("dog/5.jpg", "cat", split="validation")
    yield LabeledImage("cat/gone.jpg", "cat")
    yield LabeledImage("dog/0.jpg", "cow", size=(120, 90))
    yield Finding("dog/0.xml", "not XML: line 1")
    yield Finding("dog/1.xml", "box turned: sides exchanged", Effect.CORRECTED)


def _convert(images, output, engine, source=None, **options):
    names = set(ConversionOptions.__dataclass_fields__)
    conversion = ConversionOptions(**{key: options.pop(key) for key in names & options.keys()})
    place = {"output_file" if str(output).endswith(".tfrecord") else "output_dir": str(output)}
    if "output_dir" in place:
        place["dataset_name"] = "pets"
    destination = DestinationOptions(**place, **options)
    said = []
    job = Job(destination, conversion, engine, flags={"max_side": 0}, say=said.append)
    found = Source(source or _listed(images), ImageFolder(str(images)), ("cat", "dog"))
    return convert.convert(found, job), said


def _bytes(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in pathlib.Path(folder).rglob("*")
        if path.is_file()
    }


def _both(images, tmp_path, name="out", **options):
    """The same conversion by threads and by Beam."""
    here, said_here = _convert(images, tmp_path / "here" / name, LocalEngine(), **options)
    there, said_there = _convert(
        images, tmp_path / "there" / name, BeamEngine("DirectRunner"), **options
    )
    return here, there, said_here, said_there


@pytest.mark.parametrize(
    "options",
    [
        {"test_fraction": 0.3, "max_side": 64},
        {"num_shards": 40, "crop_to_box": True, "sixteen_bit": "full"},
        pytest.param({"num_shards": 3, "verify": "header"}, marks=pytest.mark.full),
        pytest.param({"name": "all.tfrecord"}, marks=pytest.mark.full),
    ],
    ids=lambda options: next(iter(options)),
)
def test_the_files_are_those_of_this_machine_to_the_byte(images, tmp_path, monkeypatch, options):
    monkeypatch.setattr(shards, "SHARD_BYTES", 20_000)
    here, there, said_here, said_there = _both(images, tmp_path, **options)
    expected, found = _bytes(tmp_path / "here"), _bytes(tmp_path / "there")
    assert sorted(found) == sorted(expected)
    assert found == expected
    assert here.num_examples >= 28
    for name in ("counts", "classes", "files", "changes", "mixed_splits"):
        assert getattr(there, name) == getattr(here, name), name
    for name in ("findings", "duplicates"):
        assert list(getattr(there, name)) == list(getattr(here, name)), name
        assert len(getattr(there, name)) >= 2
    mixture = [line for line in said_here if "different numbers of bits" in line]
    assert mixture == [line for line in said_there if "different numbers of bits" in line]
    assert bool(mixture) == ("sixteen_bit" not in options)


@pytest.mark.parametrize("what", [pytest.param("report", marks=pytest.mark.full), "drop"])
def test_near_duplicates_are_those_of_this_machine(images, tmp_path, what):
    pytest.importorskip("imagehash")
    here, there, *_ = _both(images, tmp_path, near_duplicates=what, test_fraction=0.4)
    pairs = [
        [(pair.first.path, pair.second.path, pair.splits, pair.distance, pair.kept) for pair in it]
        for it in (here.near_duplicates, there.near_duplicates)
    ]
    assert pairs[0] == pairs[1] and len(pairs[0]) >= 3
    assert here.num_dropped == there.num_dropped and bool(here.num_dropped) == (what == "drop")
    assert _bytes(tmp_path / "there") == _bytes(tmp_path / "here")


@pytest.mark.full
def test_a_dry_run_leaves_nothing(images, tmp_path):
    here, there, *_ = _both(images, tmp_path, dry_run=True)
    assert there.counts == here.counts and list(there.findings) == list(here.findings)
    assert not (tmp_path / "there" / "out").exists()


def test_the_first_error_stops_it_where_asked(images, tmp_path):
    problems = []
    for engine in (LocalEngine(), BeamEngine("DirectRunner")):
        with pytest.raises(InputError, match="Stopped by --on_error=fail") as caught:
            source = list(_listed(images))[:-2]
            _convert(images, tmp_path / "out", engine, source, on_error="fail", num_shards=1)
        problems.append(str(caught.value))
        assert not _bytes(tmp_path)
    assert problems[1].startswith(problems[0])


def test_a_set_of_which_most_is_not_usable_is_refused(images, tmp_path):
    source = [LabeledImage(f"{i}.jpg", "cat") for i in range(30)] + list(_listed(images))[:9]
    errors = []
    for name, engine in (("here", LocalEngine()), ("there", BeamEngine("DirectRunner"))):
        with pytest.raises(InputError, match="are not usable: missing file") as caught:
            _convert(images, tmp_path / name, engine, source)
        errors.append(str(caught.value).replace(name, "NAME"))
        assert sorted(_bytes(tmp_path / name)) == ["rejected.csv"]
    assert errors[0] == errors[1]
    assert (tmp_path / "here/rejected.csv").read_text() == (
        tmp_path / "there/rejected.csv"
    ).read_text()


def test_a_worker_without_the_photographs_rejects_none(images, tmp_path, monkeypatch):
    class Blind(ImageFolder):
        def read(self, path):
            raise ValueError(MISSING)

    monkeypatch.setattr(slices, "folder_at", Blind)
    problem = f"worker {socket.gethostname()} does not see .*all workers share"
    with pytest.raises(InputError, match=problem):
        _convert(images, tmp_path / "out", BeamEngine("DirectRunner"))
    assert not _bytes(tmp_path)


def test_a_worker_without_their_folder_is_named(images, tmp_path, monkeypatch):
    monkeypatch.setattr(slices, "folder_at", lambda path: ImageFolder(f"{path}.not_mounted"))
    with pytest.raises(InputError, match=f"no such folder.*worker {socket.gethostname()}"):
        _convert(images, tmp_path / "out", BeamEngine("DirectRunner"))


def test_what_dies_half_way_leaves_the_earlier_dataset(images, tmp_path, monkeypatch):
    _convert(images, tmp_path / "out", BeamEngine("DirectRunner"), num_shards=2)
    before = _bytes(tmp_path)
    written = []

    def dies(*args):
        if len(written) == 2:
            raise MemoryError("a worker died")
        written.append(args)
        return put_together(*args)

    put_together = slices.put_together
    monkeypatch.setattr(slices, "put_together", dies)
    again = {"num_shards": 3, "overwrite": True}
    with pytest.raises(Exception, match="a worker died"):
        _convert(images, tmp_path / "out", BeamEngine("DirectRunner"), **again)
    assert len(written) == 2 and _bytes(tmp_path) == before
    monkeypatch.undo()
    left = tmp_path / "out/.pets.working/of_one_that_was_killed/records"
    left.mkdir(parents=True)
    (left / "0000000.train").write_bytes(b"half a record")
    _convert(images, tmp_path / "out", BeamEngine("DirectRunner"), **again)
    assert not (tmp_path / "out/.pets.working").exists()
    _convert(images, tmp_path / "fresh", LocalEngine(), num_shards=3)
    assert _bytes(tmp_path / "out") == _bytes(tmp_path / "fresh")


def test_records_that_are_cut_off_are_no_shard(tmp_path):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "0000000.train").write_bytes(b"12345")
    part = (0, [(0, 3), (3, 3)])
    with pytest.raises(OSError, match="0000000.train is cut off"):
        slices.put_together(str(tmp_path), Destination("out", "pets"), ("train", 0), 1, [part])
    assert not (tmp_path / "shards" / "pets_train-00000-of-00001.tfrecord").exists()


def test_beam_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(InputError, match=r"--runner: Apache Beam needs the extra beam.*\[beam\]"):
        BeamEngine("FlinkRunner")


def test_what_goes_through_the_photographs_in_order_is_refused():
    for flags in ({"report": True}, {"zca_size": 8}, {"dataset_name": "tfds:dogs"}):
        given = ConvertOptions.of(output_dir="out", runner="DirectRunner", **flags)
        with pytest.raises(UsageError, match="on one machine: leave it or --runner out"):
            given.check()


@pytest.mark.full
def test_two_processes_by_the_command_line(images, tmp_path):
    """The runner's own processes import what they need, from any working folder."""
    made = {}
    two = "--direct_num_workers=2 --direct_running_mode=multi_processing"
    for name, flags in (
        ("here", []),
        ("there", ["--runner=DirectRunner", "--runner_options=" + two]),
    ):
        place = f"--output_dir={tmp_path / name}"
        done = run_script(
            *("convert_data.py", f"--image_dir={images}", place, "--dataset_name=pets", *flags),
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        made[name] = done.stdout.replace(str(tmp_path / name), "PLACE")
    assert "Putting the records into shards" in made["there"]
    assert _bytes(tmp_path / "here") == _bytes(tmp_path / "there")


class TestBuckets:
    """fsspec's own URLs of this machine stand for buckets: no other is to be had here."""

    def test_a_dataset_in_a_bucket_is_that_of_a_folder(self, images, tmp_path):
        _convert(images, tmp_path / "here", LocalEngine(), num_shards=2)
        expected = _bytes(tmp_path / "here")
        for name, engine in (("local", LocalEngine()), ("beam", BeamEngine("DirectRunner"))):
            url = f"file://{tmp_path}/{name}"
            made, _ = _convert(images, url, engine, num_shards=2)
            assert _bytes(tmp_path / name) == expected
            assert _convert(images, url, engine, num_shards=2)[0].already_done
            with pytest.raises(InputError, match="is there already, a dataset .*--overwrite"):
                _convert(images, url, engine, validation_fraction=None, source=_few(images))
            _convert(images, url, engine, source=_few(images), overwrite=True, num_shards=1)
            left = sorted(_bytes(tmp_path / name))
            assert "pets_train-00000-of-00001.tfrecord" in left
            assert not [file for file in left if "of-00002" in file]

    def test_memory_is_a_bucket_too(self, images, tmp_path):
        fsspec = pytest.importorskip("fsspec")
        _convert(images, tmp_path / "here", LocalEngine())
        memory = fsspec.filesystem("memory")
        _convert(images, "memory://beam/pets", BeamEngine("DirectRunner"))
        found = {path.split("/")[-1]: memory.cat_file(path) for path in memory.find("/beam")}
        memory.rm("/beam", recursive=True)
        assert found == _bytes(tmp_path / "here")

    def test_one_that_dies_while_it_publishes_leaves_no_dataset_json(
        self, images, tmp_path, monkeypatch
    ):
        url = f"file://{tmp_path}/out"
        _convert(images, url, LocalEngine(), num_shards=2)

        def put(pairs):
            for i, pair in enumerate(pairs):
                if i == 3:
                    raise OSError("the network is gone")
                move([pair])

        move = buckets.move
        monkeypatch.setattr(buckets, "move", put)
        again = {"num_shards": 3, "overwrite": True}
        with pytest.raises(OSError, match="the network is gone"):
            _convert(images, url, LocalEngine(), **again)
        assert "dataset.json" not in _bytes(tmp_path / "out")
        monkeypatch.undo()
        with pytest.raises(InputError, match="not left by a finished conversion"):
            _convert(images, url, LocalEngine(), num_shards=3)
        _convert(images, url, LocalEngine(), **again)
        _convert(images, tmp_path / "fresh", LocalEngine(), num_shards=3)
        assert _bytes(tmp_path / "out") == _bytes(tmp_path / "fresh")

    @pytest.mark.parametrize("labels", ["folders", "table"])
    def test_photographs_in_a_bucket(self, images, tmp_path, labels):
        memory = pytest.importorskip("fsspec").filesystem("memory")
        few = tmp_path / "few"
        for path in [*images.rglob("[0-5].jpg"), images / "cat/broken.jpg"]:
            place = few / path.relative_to(images)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
            memory.pipe(f"/photographs/{place.relative_to(few)}", path.read_bytes())
        made = {}
        for url in (str(few), "memory://photographs"):
            table = tmp_path / "table.csv"
            rows = [f"{url}/{name}/{i}.jpg,{name}\n" for name in ("cat", "dog") for i in range(5)]
            table.write_text("".join(["filename,label\n", *rows, "cat/gone.jpg,cat\n"]))
            more = {"csv_file": str(table)} if labels == "table" else {}
            for runner in [None] if url == str(few) else [None, "DirectRunner"]:
                output = tmp_path / f"{len(made)}"
                given = ConvertOptions.of(
                    image_dir=url,
                    output_dir=str(output),
                    dataset_name="pets",
                    runner=runner,
                    validation_fraction=0.3,
                    **more,
                )
                found = run(given, lambda line: None)
                files = _bytes(output)
                del files["dataset.json"]  # which holds the place and times of the photographs
                made[runner, url] = files, list(map(str, found.findings)), found.counts
                assert run(given, lambda line: None).already_done
        memory.rm("/photographs", recursive=True)
        first, *others = made.values()
        assert len(first[1]) == 1 and sum(count.total() for count in first[2].values()) >= 10
        for other in others:
            assert other == first

    def test_a_bucket_without_photographs_is_told(self):
        given = ConvertOptions.of(image_dir="memory://nothing", output_dir="out")
        with pytest.raises(InputError, match="--image_dir=memory://nothing"):
            run(given, lambda line: None)

    @pytest.mark.full
    def test_training_and_evaluation_read_one_that_tensorflow_opens(self, images, tmp_path):
        url = f"file://{tmp_path}/out"
        _convert(images, url, LocalEngine(), num_shards=2, max_side=32)
        train, evaluation = str(tmp_path / "train"), str(tmp_path / "eval")
        for line in (
            f"train_image_classifier.py --dataset_dir={url} --train_dir={train} "
            "--model_name=small_cnn --preprocessing_name=cifarnet --train_image_size=16 "
            "--max_number_of_steps=1 --batch_size=4",
            f"eval_image_classifier.py --checkpoint_path={train} --eval_dir={evaluation} "
            "--dataset_split_name=validation",
        ):
            done = run_script(*line.split())
            assert done.returncode == 0, done.stderr
        assert f"split validation in {url}" in done.stdout

    @pytest.mark.parametrize(
        "place",
        [
            "http://127.0.0.1:9/pets",
            "FTP://127.0.0.1/pets",
            "webhdfs://127.0.0.1/pets",
            "simplecache::http://127.0.0.1:9/pets",
            "zip://pets::filecache::ftp://127.0.0.1/pets",
            "generic://http://127.0.0.1:9/pets",
            "reference::file:///pets.json",
        ],
    )
    def test_what_nothing_protects_is_refused(self, images, place):
        given = ConvertOptions.of(image_dir=place, output_dir="out")
        for convert_it in (
            lambda: run(given, lambda line: None),
            lambda: _convert(images, place, LocalEngine()),
        ):
            with pytest.raises(InputError, match="_dir=.*: nothing protects what comes from there"):
                convert_it()

    def test_a_bucket_that_nothing_reaches_is_named(self, images):
        with pytest.raises(InputError, match="--output_dir=nowhere://pets: Protocol not known"):
            _convert(images, "nowhere://pets", LocalEngine())


def _few(images):
    return [image for image in _listed(images) if isinstance(image, LabeledImage)][::2]


@pytest.mark.parametrize(
    "options", [{}, pytest.param({"near_duplicates": "report"}, marks=pytest.mark.full)]
)
def test_a_disk_that_fails_at_a_worker_shrinks_no_dataset(images, tmp_path, monkeypatch, options):
    class Failing(ImageFolder):
        def read(self, path):
            if path == "dog/3.jpg":
                raise Unreadable(f"{path}: Input/output error.")
            return super().read(path)

    for module in (slices, beam_pipelines):
        monkeypatch.setattr(module, "folder_at", Failing)
    problem = rf"dog/3.jpg: Input/output error.* \(on the worker {socket.gethostname()}\)"
    with pytest.raises((InputError, Unreadable), match=problem):
        _convert(images, tmp_path / "out", BeamEngine("DirectRunner"), **options)
    assert not _bytes(tmp_path)


@pytest.mark.parametrize(
    ("runner", "flags", "problem"),
    [
        ("DataflowRunner", None, "^--runner=DataflowRunner: Beam says: .*--runner_options"),
        ("DirectRunner", "--direct_num_workers=abc", "^--runner_options=.*invalid int .*'abc'"),
        ("DirectRunner", "--direct_num_workers='1", "^--runner_options=.*No closing quotation"),
    ],
)
def test_options_that_beam_refuses_are_named(runner, flags, problem):
    with pytest.raises(UsageError, match=problem):
        BeamEngine(runner, flags)


def test_a_cluster_that_nobody_reaches_is_named(images, tmp_path):
    engine = BeamEngine("FlinkRunner", "--job_endpoint=127.0.0.1:1 --job_server_timeout=1")
    with pytest.raises(InputError, match="^--runner=FlinkRunner: Beam says: .* be reached"):
        _convert(images, tmp_path / "out", engine)
    assert not _bytes(tmp_path)
