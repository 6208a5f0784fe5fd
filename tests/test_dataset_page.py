"""dataset.html: what it says, and that hostile names are text in it."""

import re

import numpy as np
import pytest
from PIL import Image

from foundation.errors import UsageError
from foundation.options import changed
from runs.convert import convert
from runs.options import ConvertOptions
from tests.test_page import browse, needs_chromium

_SCRIPT, _BOLD = "<script>alert(1)<∕script>", "<b>bold & 'quoted' \"name\""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset of two classes with exact and near duplicates, boxes, and a file that is none."""
    folder = tmp_path_factory.mktemp("page")
    random, rows = np.random.default_rng(0), ["filename,label,split,xmin,ymin,xmax,ymax"]
    for i in range(8):
        noise = random.integers(0, 255, (6, 8, 3)).astype(np.uint8)
        picture = Image.fromarray(noise).resize((96, 72), Image.Resampling.BICUBIC)
        label = (_SCRIPT, _BOLD)[i % 2].replace('"', '""')
        (folder / "images").mkdir(exist_ok=True)
        picture.save(folder / "images" / f"<img src=x>{i}.png")
        rows.append(f'<img src=x>{i}.png,"{label}",{("train", "test")[i > 5]},10,10,60,50')
    picture.save(folder / "images" / "again.png")
    rows.append(f'again.png,"{_SCRIPT}",train,,,,')
    picture.resize((192, 144)).save(folder / "images" / "larger.png")
    rows.append(f'larger.png,"{_SCRIPT}",train,,,,')
    (folder / "images" / "<i>none.jpg").write_bytes(b"")
    rows.append(f'<i>none.jpg,"{_SCRIPT}",train,,,,')
    (folder / "table.csv").write_text("\n".join(rows), encoding="utf-8")
    lines = []
    options = ConvertOptions.of(
        image_dir=str(folder / "images"),
        csv_file=str(folder / "table.csv"),
        output_dir=str(folder / "out"),
        report=True,
    )
    return convert(options, lines.append), folder / "out" / "dataset.html", options, lines


def test_what_the_page_says(made):
    found, page, _, lines = made
    text = page.read_text(encoding="utf-8")
    assert lines[-1] == f"\n{page} shows the dataset, and what was found in it."
    assert "<b>10 examples of 2 classes</b><br>1 refused, 1 exact duplicate, " in text
    assert "Duplicates in two splits or classes: 1" in text
    for name, count in (("64 to 127", 9), ("128 to 255", 1), ("wide", 10), ("PNG", 10)):
        assert re.search(rf"<th scope=row>{name}<td [^>]*>{count}\n", text), name
    assert re.search(r"<th scope=row>20% to 50%<td [^>]*>8\n", text)  # 50 x 40 of 96 x 72 pixels
    assert re.search(r"<th scope=row>empty file<td [^>]*>1\n", text)
    pairs = len(found.near_duplicates) + len(found.duplicates)
    assert pairs >= 2 and text.count("<div class=views>") == pairs
    assert "http" not in text.replace("http-equiv", "")


def test_names_are_text(made):
    text = made[1].read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in text and "<script>alert" not in text
    assert "<b>bold" not in text and "<img src=x>" not in text and "<i>" not in text


@needs_chromium
@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_in_a_browser(made, width):
    script = """
    document.querySelector(".sortable thead tr").cells[1].firstChild.click();
    result.counts = [...document.querySelectorAll(".sortable tbody tr")].map(
      row => Number(row.cells[1].dataset.value));
    result.broken = [...document.images].filter(one => !one.src.startsWith("data:image/")).length;
    result.names = [...document.querySelectorAll(".sortable tbody th bdi")].map(
      name => name.textContent);
    document.querySelector("summary").click();
    """
    result, console = browse(made[1], script, width)
    assert console == [] and result["overflow"] == 0 and result["broken"] == 0
    assert result["counts"] == [5, 3] and result["names"] == [_SCRIPT, _BOLD]


def test_a_finished_dataset_gets_its_page_too(made):
    _, page, options, _ = made
    shard = page.parent / "out_train-00000-of-00001.tfrecord"
    before, written = page.read_text(encoding="utf-8"), shard.stat().st_mtime_ns
    page.unlink()
    again = convert(options, lambda line: None)
    assert again.already_done and shard.stat().st_mtime_ns == written
    date = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")
    assert date.sub("", page.read_text(encoding="utf-8")) == date.sub("", before)


def test_a_dry_run_writes_no_page(made):
    with pytest.raises(UsageError, match="--report writes a page, --dry_run nothing"):
        convert(changed(made[2], {"dry_run": True}), lambda line: None)


def test_the_page_goes_with_the_dataset_that_it_shows(made):
    _, page, options, _ = made
    without = {"report": False, "near_duplicates": "ignore", "overwrite": True, "num_shards": 2}
    convert(changed(options, without), lambda line: None)
    assert not page.exists() and (page.parent / "dataset.json").exists()
