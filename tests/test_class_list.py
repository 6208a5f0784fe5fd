import pytest

from datasets.sources import class_list
from foundation.errors import InputError

_PBTXT = """item {
  id: 2
  name: 'dog'
}
item { name: "big cat" id: 1 display_name: "Cat" }
"""


@pytest.mark.parametrize(
    ("content", "form"),
    [
        ("big cat\ndog\n", "a name a line"),
        ("big cat, dog\n", "names, separated by commas"),
        ("1:dog\r\n0:big cat\r\n", "number:name a line"),
        ("0 big cat\n1 dog\n", "number name"),
        ("dog,1\nbig cat,0\n", "name,number a line"),
        ("name,id\nbig cat,0\ndog,1\n", "name,number a line"),
        ("0,big  cat\n1;dog\n", "number,name a line"),
        ('["big cat", "dog"]', "JSON, a list"),
        ('{"names": ["big cat", "dog"]}', "JSON, a list"),
        ('{"dog": 1, "big cat": 0}', "JSON, name to number"),
        ('{"1": "dog", "0": "big cat"}', "JSON, number to name"),
        ('{"0": ["n02", "big cat"], "1": ["n03", "dog"]}', "JSON, number to name"),
        (_PBTXT, "label map with ids from 1, which become numbers from 0"),
        (_PBTXT.replace("1", "0").replace("2", "1"), "label map"),
        (
            "item { id: 0 name: '/m/01' display_name: 'big cat' }\n"
            "item { id: 1 name: '/m/02' display_name: 'dog' }",
            "label map, by display_name",
        ),
        ("item { id: 0 display_name: 'big cat' } item { id: 1 display_name: 'dog' }",)
        + ("label map, by display_name",),
        ("train: x\nnc: 2\nnames: ['big cat', dog]  # two\n", "YAML, a list"),
        ('names:\n- big cat\n- "dog"\nval: x\n', "YAML, a list"),
        ("names: [big cat,\n  dog,\n]\n", "YAML, a list"),
        ("nc: 2\nnames:\n  1: dog\n  # the other\n  0: big cat\n", "YAML, number to name"),
        ("names: {0: big cat, 1: dog}\n", "YAML, number to name"),
    ],
)
def test_every_form_that_people_have(tmp_path, content, form):
    (tmp_path / "classes").write_text(content)
    assert class_list.read(str(tmp_path / "classes")) == (("big cat", "dog"), form)


@pytest.mark.parametrize(
    "names", [("1 euro", "2 euro"), ("spaniel, cocker", "terrier, fox"), ("7", "10"), ("a", "b 2")]
)
def test_names_may_hold_numbers_and_commas(tmp_path, names):
    (tmp_path / "classes").write_text("\n".join(names))
    assert class_list.read(str(tmp_path / "classes")).names == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat,1\ndog,2\n", "the numbers of the names must be 0 to 1"),
        ('{"cat": 0, "dog": 0}', "the numbers of the names must be 0 to 1"),
        ('{"cat": ', "is no JSON"),
        ('{"cat": "dog"}', "is JSON, but no list of names"),
        ("item { id: 1 }", "an item has no id or no name"),
        ("names: [cat, dog\n", "are neither a list nor numbers with names"),
        ("names:\n  cat: dog\n", "are neither a list nor numbers with names"),
        ("names:\n  1: cat\n", "the numbers of the names must be 0 to 0"),
        ("cat\ncat\n", "a name is missing or there twice"),
        ("", "a name is missing or there twice"),
    ],
)
def test_what_is_not_understood_is_an_error(tmp_path, content, message):
    (tmp_path / "classes").write_text(content)
    with pytest.raises(InputError, match=message):
        class_list.read(str(tmp_path / "classes"))


def test_names_given_by_hand():
    assert class_list.read("cat,big dog").names == ("cat", "big dog")
    assert class_list.read("cat,").names == ("cat",)
    assert class_list.read("1:dog, 0:cat") == (("cat", "dog"), "number:name")
    with pytest.raises(InputError, match="only some of the names have a number"):
        class_list.read("0:cat,dog")
    with pytest.raises(InputError, match="--classes=cat: there is no such file"):
        class_list.read("cat")
