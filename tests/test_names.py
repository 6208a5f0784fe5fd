import pathlib
import subprocess
import sys

import pytest

from foundation.errors import UsageError
from nets import names


def test_a_mistyped_name_is_answered_with_the_closest():
    names.check("inception_v3")
    with pytest.raises(UsageError, match=r"--model_name=inception_v33: no such.*mean inception_v3"):
        names.check("inception_v33")


def test_the_names_need_neither_tensorflow_nor_keras():
    code = """
import sys
from nets import names
names.known()
print({"tensorflow", "keras"} & set(sys.modules))
"""
    root = pathlib.Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
