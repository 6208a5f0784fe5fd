import pytest

from datasets.sources import class_folders
from datasets.sources.image_folder import ImageFolder


def _read(tmp_path, *paths):
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    return [(i.path, i.label, i.split) for i in class_folders.read(ImageFolder(str(tmp_path)))]


def test_a_folder_is_a_class_at_any_depth_below(tmp_path):
    assert _read(tmp_path, "dog/b.jpg", "dog/a.png", "cat/2019/x", "LICENSE.txt") == [
        ("cat/2019/x", "cat", ""),
        ("dog/a.png", "dog", ""),
        ("dog/b.jpg", "dog", ""),
    ]


@pytest.mark.parametrize("validation", ["valid", "validation", "val", "Val"])
def test_split_folders_above_the_classes_are_the_splits(tmp_path, validation):
    found = _read(tmp_path, "train/cat/1.jpg", f"{validation}/cat/2.jpg", "test/dog/3.jpg")
    assert sorted(found) == sorted(
        [
            ("train/cat/1.jpg", "cat", "train"),
            (f"{validation}/cat/2.jpg", "cat", "validation"),
            ("test/dog/3.jpg", "dog", "test"),
        ]
    )


def test_train_may_be_a_class(tmp_path):
    found = _read(tmp_path, "aeroplane/1.jpg", "train/2.jpg")
    assert found == [("aeroplane/1.jpg", "aeroplane", ""), ("train/2.jpg", "train", "")]


def test_an_empty_class_folder_is_an_error_where_it_is_for_training(tmp_path):
    (tmp_path / "val" / "cow").mkdir(parents=True)
    assert _read(tmp_path, "train/cow/1.jpg") == [("train/cow/1.jpg", "cow", "train")]
    (tmp_path / "train" / "dog").mkdir()
    with pytest.raises(ValueError, match="class folder .*train/dog holds no photograph"):
        _read(tmp_path, "train/dog/notes.txt")


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    found = _read(tmp_path, "cat/1.jpg", "cat/._1.jpg", ".git/x", "__MACOSX/cat/1.jpg")
    assert found == [("cat/1.jpg", "cat", "")]


def test_a_class_must_have_a_name_in_utf8(tmp_path):
    with pytest.raises(ValueError, match="The name of the class folder .* is not in UTF-8"):
        _read(tmp_path, "caf\udce9/1.jpg")


def test_splits_and_other_folders_side_by_side_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="the split 'train' and, beside it, the folder 'cow'"):
        _read(tmp_path, "train/cat/1.jpg", "cow/2.jpg")


def test_no_folders_are_an_error_that_names_the_other_ways(tmp_path):
    with pytest.raises(ValueError, match="no folder per class.*--annotations_dir or --csv_file"):
        _read(tmp_path, "1.jpg")
