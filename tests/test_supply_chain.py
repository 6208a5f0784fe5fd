"""What comes from outside is data: it comes by HTTPS, and nothing of it is run."""

import ast
import importlib.metadata

import pytest

from nets import pretrained
from runs import licences
from tests.conftest import ROOT

# Unpickles what this process alone has pickled, in a file without a name.
OWN_PICKLES = "datasets/disk_table.py"
PICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "torch"}
# Runs code, or may, on what it reads.
DANGEROUS = {
    *("eval", "exec", "os.system", "os.popen", "marshal.loads", "shelve.open", "joblib.load"),
    *("torch.load", "yaml.load", "yaml.unsafe_load", "pd.read_pickle"),
    *("keras.config.enable_unsafe_deserialization", "pickle.load", "pickle.Unpickler"),
    *("shutil.unpack_archive",),
}
METHODS = {"extractall"}  # of archives: writes wherever their names lead
NEEDED = {
    "np.load": ("allow_pickle", False),
    "keras.models.load_model": ("safe_mode", True),
}
SOURCES = [
    path
    for path in sorted(ROOT.rglob("*.py"))
    if path.relative_to(ROOT).parts[0] not in ("tests", "benchmarks", "build", ".venv")
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_runs_what_it_reads(path):
    calls = [n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call)]
    for call in calls:
        name, given = ast.unparse(call.func), {one.arg: one.value for one in call.keywords}
        assert name not in DANGEROUS and name.rpartition(".")[2] not in METHODS, call.lineno
        if name in NEEDED:
            word, value = NEEDED[name]
            assert word in given and ast.literal_eval(given[word]) is value, call.lineno
        assert not ("shell" in given and ast.literal_eval(given["shell"])), call.lineno


def test_pickles_are_of_one_process():
    users = [p for p in SOURCES if PICKLERS & {*_imported(ast.parse(p.read_text("utf-8")))}]
    assert [str(path.relative_to(ROOT)) for path in users] == [OWN_PICKLES]


def _imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name.partition(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def test_downloads_go_over_https():
    assert all(one.url.startswith("https://") for one in pretrained.ARCHIVES.values())


def test_every_pin_has_its_licence(tmp_path):
    found = {pin.name: pin for pin in licences.pins()}
    assert found["tensorflow"].version == importlib.metadata.version("tensorflow")
    assert "BSD" in found["numpy"].licence
    assert found["keras"].licence not in ("", "not stated")
    text = "# pins\nnone-such==1.0 ; python_version < '3.11'  # why\n"
    (tmp_path / "constraints.txt").write_text(text)
    (one,) = licences.pins(tmp_path / "constraints.txt")
    assert one == ("none-such", "1.0", 'python_version < "3.11"', licences.ABSENT)


# Everything here may be passed on with a product; a licence that asks for more is looked at first.
ALLOWED = (
    *("MIT", "BSD", "0BSD", "Apache", "ISC", "PSF", "Python Software Foundation", "MPL-2.0"),
    *("Zlib", "CC0", "2-clause BSD", "3-Clause BSD", "ZPL-2.1"),
    "LicenseRef-NVIDIA-Proprietary",  # of CUDA, which no product of ours holds
)


def test_no_licence_asks_for_more_than_its_name():
    for pin in licences.pins():
        if pin.licence != licences.ABSENT:
            assert any(word in pin.licence for word in ALLOWED), pin
            assert "GPL" not in pin.licence, pin
