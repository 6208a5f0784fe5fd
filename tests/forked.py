"""Scripts in processes of their own that begin with TensorFlow imported.

The import takes five seconds of a processor, more than most scripts do in a test. Python's
forkserver does it once and forks for each script; nothing in TensorFlow is begun before that, so a
script starts with no device, graph or thread of TensorFlow's. What depends on the import itself
(test_end_to_end.py, test_command_line.py) starts Python.
"""

import atexit
import contextlib
import multiprocessing.forkserver
import os
import pathlib
import runpy
import subprocess
import sys
import threading
import types
import warnings
import weakref
from collections.abc import Callable
from unittest import mock

ROOT = pathlib.Path(__file__).parent.parent
_OURS = [p.stem for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()]
# Of modules whose warnings are errors: those that warn, or are warned for what they call.
OURS = rf"(__main__|{'|'.join(sorted(_OURS))})(\..*)?$"
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.preloaded"])


def context() -> multiprocessing.context.ForkServerContext:
    """For processes of functions; its server runs, and knows where our modules are."""
    with mock.patch.dict(os.environ, PYTHONPATH=str(ROOT)):
        multiprocessing.forkserver.ensure_running()
    return _CONTEXT


class Script:
    """A running script, with what tests use of subprocess.Popen; output as text."""

    def __init__(
        self,
        script: str,
        *args: str,
        cwd: str | os.PathLike | None = None,
        env: dict[str, str] | None = None,
        first: Callable[[], None] | None = None,
    ):
        """
        Args:
          script: its file in the repository's root, or "-c" before a program, as Python takes it.
          args: its command line.
          cwd, env: as in subprocess.Popen.
          first: a function of a test module that the process calls before the script.
        """
        self.args = (script, *args)
        forks = context()
        (out, out_end), (err, err_end) = (forks.Pipe(duplex=False) for _ in range(2))
        given = (self.args, str(cwd or os.getcwd()), dict(env or os.environ), first)
        self._process = forks.Process(target=_run, args=(*given, out_end, err_end))
        self._process.start()
        self.pid = self._process.pid
        self.stdout, self.stderr = (open(os.dup(one.fileno())) for one in (out, err))
        for end in (out, err, out_end, err_end):
            end.close()
        for one in (self.stdout, self.stderr):
            weakref.finalize(self, one.close)
        # A test that fails leaves its script behind, and pytest would wait for that at its end.
        weakref.finalize(self, self._process.kill)

    @property
    def returncode(self) -> int | None:
        """The exit code; minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """The rest of both outputs, at the end of the process; raises subprocess.TimeoutExpired."""
        rest = {}
        readers = [
            threading.Thread(target=lambda one=one: rest.__setitem__(one, one.read()), daemon=True)
            for one in (self.stdout, self.stderr)
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join()
        return rest[self.stdout], rest[self.stderr]


def run_script(script: str, *args: str, timeout: float = 300, **options):
    """Runs a script to its end, as subprocess.run does; `options` as in Script."""
    process = Script(script, *args, **options)
    try:
        out, err = process.communicate(timeout)
    except BaseException:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _run(argv, cwd, env, first, out, err) -> None:
    """A process from here to its end: what Python does with a script on its command line."""
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    out.close()
    err.close()
    encoding = env.get("PYTHONIOENCODING")
    sys.stdout = open(1, "w", encoding=encoding, closefd=False)
    sys.stderr = open(2, "w", 1, encoding, errors="backslashreplace", closefd=False)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    warnings.filterwarnings("error", module=OURS)
    if first:
        first()
    sys.path.insert(0, str(ROOT))
    try:
        if argv[0] == "-c":
            sys.argv = ["-c", *argv[2:]]
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(argv[1], main.__dict__)
        else:
            sys.argv = [str(ROOT / argv[0]), *argv[1:]]
            runpy.run_path(sys.argv[0], run_name="__main__")
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
    finally:
        with contextlib.suppress(BrokenPipeError):
            atexit._run_exitfuncs()
