import importlib.metadata
import os

import pytest

from training import compile_cache


@pytest.fixture
def driver(tmp_path):
    """What the driver of one GPU shows of it."""
    folder = tmp_path / "driver"
    card = folder / "gpus" / "0000:00:06.0"
    card.mkdir(parents=True)
    (card / "information").write_text("Model: \t Some Card\nIRQ: 5\n")
    (folder / "version").write_text("580.159")
    return folder


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("TF_XLA_FLAGS", "")
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_cuda_data_dir=/cuda")


def test_tensorflow_is_told_where_to_keep_programs(tmp_path, driver):
    own = compile_cache.use(str(tmp_path / "cache"), driver)
    assert os.path.dirname(own) == str(tmp_path / "cache")
    assert f"--tf_xla_persistent_cache_directory={own}" in os.environ["TF_XLA_FLAGS"]
    first, second = os.environ["XLA_FLAGS"].split()
    assert first == "--xla_gpu_cuda_data_dir=/cuda"
    assert second == f"--xla_gpu_per_fusion_autotune_cache_dir={own}/autotuning"
    assert os.path.isdir(f"{own}/autotuning")


def test_another_card_or_tensorflow_has_another_folder(tmp_path, driver, monkeypatch):
    folders = [compile_cache.use(str(tmp_path), driver)]
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9")
    folders.append(compile_cache.use(str(tmp_path), driver))
    (card,) = driver.glob("gpus/*/information")
    card.write_text("Model: \t Other Card\n")
    folders.append(compile_cache.use(str(tmp_path), driver))
    assert len(set(folders)) == 3


@pytest.mark.parametrize("folder", ["", "file/below"])
def test_without_a_folder_nothing_is_kept(tmp_path, driver, folder):
    (tmp_path / "file").write_text("")
    where = folder and str(tmp_path / folder)
    assert compile_cache.use(where, driver) is None
    assert os.environ["TF_XLA_FLAGS"] == ""


def test_without_a_gpu_nothing_is_made(tmp_path):
    assert compile_cache.use(str(tmp_path / "cache"), tmp_path / "no driver") is None
    assert not (tmp_path / "cache").exists()


def test_what_the_user_set_stays(tmp_path, driver, monkeypatch):
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_persistent_cache_directory=/mine")
    compile_cache.use(str(tmp_path), driver)
    assert os.environ["TF_XLA_FLAGS"].split()[0] == "--tf_xla_persistent_cache_directory=/mine"
    assert os.environ["TF_XLA_FLAGS"].count("persistent_cache_directory") == 1


def test_the_oldest_programs_make_room(tmp_path, driver, monkeypatch):
    monkeypatch.setattr(compile_cache, "_MOST_BYTES", 25)
    own = compile_cache.use(str(tmp_path), driver)
    for age, name in enumerate(["new", "older", "oldest"]):
        path = os.path.join(own, f"{name}.pb")
        with open(path, "w") as file:
            file.write("x" * 10)
        os.utime(path, (1e9 - age, 1e9 - age))
    compile_cache.use(str(tmp_path), driver)
    assert sorted(name for name in os.listdir(own) if name.endswith(".pb")) == [
        "new.pb",
        "older.pb",
    ]
