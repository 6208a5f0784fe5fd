"""What grows while a training, an evaluation that watches it, and a demo run for a long time.

python -m benchmarks.soak --minutes=30

It draws the sample dataset, trains on it, evaluates each new checkpoint, and serves the first
export on a page that gets a picture every second or so, many pictures and corrections now and then.
Meanwhile memory, open files and threads of the three are written to soak.csv; soak.png shows them.
"""

import contextlib
import csv
import dataclasses
import itertools
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator

import psutil

import command_line
from command_line import say
from foundation import files
from foundation.errors import InputError, missing_extra
from foundation.options import Options, option, options

_MEASURES = {"memory": "memory, MiB", "files": "open files", "threads": "threads"}
# More than this between the second quarter and the last is growth: a share of memory, a number.
_GROWTH = {"memory": 0.1, "files": 3, "threads": 3}
_PAUSE_SECS = 1.0  # between two requests
_MANY_EVERY, _KEEP_EVERY = 20, 10  # requests


@options
class SoakOptions(Options):
    """What runs for how long."""

    minutes: float = option(30.0, "How long.", bounds=(0.5, None))
    output_dir: str = option(
        "soak", "For dataset, run, logs of the three, soak.csv and soak.png.", path=True
    )
    sample_secs: float = option(2.0, "Seconds between two measurements.", bounds=(0.1, None))


def main(given: SoakOptions) -> None:
    place = pathlib.Path(given.output_dir).absolute()
    place.mkdir(parents=True, exist_ok=True)
    photographs = _prepare(place)
    soak = _Soak(place, time.monotonic())
    with contextlib.ExitStack() as stack:
        stack.callback(soak.end)
        _train(soak)
        _wait_for(place / "run/checkpoint", soak)
        _evaluate(soak)
        _run(
            place, "export_model.py", "--checkpoint_path=run", "--output_dir=export", "--overwrite"
        )
        address = _serve(soak, place)
        requests = _Requests(address, photographs)
        threading.Thread(target=requests.run, daemon=True).start()
        soak.measure(60 * given.minutes, given.sample_secs, requests)
        requests.stop()
    _write(place, soak.samples)
    _plot(place / "soak.png", soak.samples)
    for line in _table(soak.samples):
        say(line)
    _report(place, requests)


@dataclasses.dataclass
class _Sample:
    """What a process had at a time, with all that it began; memory in MiB, resident."""

    minutes: float
    name: str
    memory: float
    files: int
    threads: int


class _Soak:
    """The processes that run, and what they were measured to have."""

    def __init__(self, place: pathlib.Path, began: float):
        self._place, self._began = place, began
        self._processes: dict[str, subprocess.Popen] = {}
        self.samples: list[_Sample] = []

    def begin(self, name: str, script: str, *words: str) -> None:
        """Starts a script whose lines go to NAME.log."""
        with open(self.log(name), "w", encoding="utf-8") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, os.path.join(os.getcwd(), script), *words],
                cwd=self._place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )

    def log(self, name: str) -> pathlib.Path:
        return self._place / f"{name}.log"

    def check(self) -> None:
        """Raises InputError where a process has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                last = self.log(name).read_text(encoding="utf-8").strip().splitlines()[-1:]
                raise InputError(f"{name} ended with {process.returncode}: {' '.join(last)}")

    def measure(self, seconds: float, every: float, requests: "_Requests") -> None:
        """Measures all processes for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.check()
            requests.check()
            minutes = (time.monotonic() - self._began) / 60
            for name, process in self._processes.items():
                self.samples.append(_Sample(minutes, name, *_resources(process.pid)))
            time.sleep(every)

    def end(self) -> None:
        """Asks all to stop, and waits for them."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            process.kill()


def _resources(pid: int) -> tuple[float, int, int]:
    """Memory in MiB, open files and threads of a process and those that it began."""
    found = [psutil.Process(pid)]
    found += found[0].children(recursive=True)
    memory, open_files, threads = 0.0, 0, 0
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):  # a child that has just ended
            memory += process.memory_info().rss / 2**20
            open_files += process.num_fds()
            threads += process.num_threads()
    return memory, open_files, threads


class _Requests:
    """Asks a demo as a browser does, one request after the other."""

    def __init__(self, address: str, photographs: list[pathlib.Path]):
        try:
            import httpx  # comes with Gradio
        except ImportError as error:
            raise missing_extra("demo", "The demo") from error
        self._http = httpx.Client(base_url=address, timeout=120)
        self._photographs, self._stopped = itertools.cycle(photographs), threading.Event()
        self._problem = ""
        self.seconds: list[float] = []
        config = self._http.get("/config").json()
        ids = {one["props"].get("elem_id"): one["id"] for one in config["components"]}
        asked = {tuple(t): one["id"] for one in config["dependencies"] for t in one["targets"]}
        self._one = asked[ids["picture"], "change"]
        self._keep = asked[ids["keep"], "click"]
        self._many = asked[ids["classify"], "click"]

    def run(self) -> None:
        """Asks until it is stopped."""
        try:
            for number in itertools.count(1):
                began = time.monotonic()
                picture = self._uploaded()
                if not self._ask(self._one, [picture])[0]["label"]:
                    raise InputError("a picture got no class")
                self.seconds.append(time.monotonic() - began)
                if number % _KEEP_EVERY == 0:
                    self._ask(self._keep, [picture, "cat"])
                if number % _MANY_EVERY == 0:
                    self._ask(self._many, [[self._uploaded() for _ in range(8)]])
                if self._stopped.wait(_PAUSE_SECS):
                    return
        except Exception as error:  # told by `check`, in the thread that waits
            self._problem = f"{type(error).__name__}: {error}"

    def check(self) -> None:
        """Raises InputError where a request failed."""
        if self._problem:
            raise InputError(f"The demo did not answer: {self._problem}")

    def stop(self) -> None:
        self._stopped.set()

    def _uploaded(self) -> dict:
        path = next(self._photographs)
        sent = {"files": (path.name, path.read_bytes())}
        (place,) = self._http.post("/gradio_api/upload", files=sent).raise_for_status().json()
        return {"path": place, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}

    def _ask(self, function: int, data: list) -> list:
        session = uuid.uuid4().hex[:10]
        body = {"data": data, "fn_index": function, "session_hash": session}
        self._http.post("/gradio_api/queue/join", json=body).raise_for_status()
        for message in self._messages(session):
            if message["msg"] == "process_completed":
                if not message["success"]:
                    raise InputError(f"function {function}: {message['output']}")
                return message["output"]["data"]
        raise InputError(f"function {function} gave no answer")

    def _messages(self, session: str) -> Iterator[dict]:
        with self._http.stream(
            "GET", "/gradio_api/queue/data", params={"session_hash": session}
        ) as answer:
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])


def _prepare(place: pathlib.Path) -> list[pathlib.Path]:
    """The sample dataset; its photographs."""
    drawn = [sys.executable, "-m", "datasets.sample", f"--output_dir={place}/photographs"]
    subprocess.run(drawn, check=True, stdout=subprocess.DEVNULL)
    _run(
        *(place, "convert_data.py", "--dataset_name=animals", "--output_dir=animals"),
        *("--image_dir=photographs/images", "--annotations_dir=photographs/annotations"),
        "--overwrite",
    )
    return sorted((place / "photographs/images").iterdir())


def _run(place: pathlib.Path, script: str, *words: str) -> None:
    with open(place / f"{script.removesuffix('.py')}.log", "w", encoding="utf-8") as log:
        subprocess.run(
            [sys.executable, os.path.join(os.getcwd(), script), *words],
            cwd=place,
            check=True,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _train(soak: _Soak) -> None:
    soak.begin(
        *("training", "train_image_classifier.py", "--dataset_dir=animals", "--train_dir=run"),
        *("--model_name=mobilenet_v1_025", "--train_image_size=64", "--batch_size=32"),
        *("--max_number_of_steps=100000000", "--learning_rate=0.001", "--optimizer=adam"),
        *("--learning_rate_decay_type=fixed", "--batch_norm_decay=0.99"),
        *("--save_interval_secs=20", "--eval_every_n_steps=500", "--log_every_n_steps=50"),
        *("--save_summaries_secs=30", "--rotation_range=10", "--horizontal_flip"),
    )


def _evaluate(soak: _Soak) -> None:
    soak.begin(
        *("evaluation", "eval_image_classifier.py", "--checkpoint_path=run", "--eval_dir=eval"),
        *("--dataset_split_name=validation", "--eval_interval_secs=1"),
    )


def _serve(soak: _Soak, place: pathlib.Path) -> str:
    """Starts the demo; its address."""
    soak.begin(
        *("demo", "web_demo.py", "--model=export", "--port=0", "--feedback_dir=feedback"),
        f"--report={place}/eval/report.html",
    )
    while True:
        said = soak.log("demo").read_text(encoding="utf-8")
        if found := re.search(r"Open (http://\S+) in a browser", said):
            return found[1]
        soak.check()
        time.sleep(0.5)


def _wait_for(path: pathlib.Path, soak: _Soak) -> None:
    while not path.exists():
        soak.check()
        time.sleep(0.5)


def _write(place: pathlib.Path, samples: list[_Sample]) -> None:
    with files.whole(place / "soak.csv", newline="") as file:
        table = csv.writer(file)
        table.writerow([field.name for field in dataclasses.fields(_Sample)])
        table.writerows(dataclasses.astuple(sample) for sample in samples)


def _plot(path: pathlib.Path, samples: list[_Sample]) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(_MEASURES), 1, figsize=(8, 9), sharex=True)
    for axis, (measure, label) in zip(axes, _MEASURES.items(), strict=True):
        for name in dict.fromkeys(sample.name for sample in samples):
            own = [sample for sample in samples if sample.name == name]
            values = [getattr(sample, measure) for sample in own]
            axis.plot([sample.minutes for sample in own], values, label=name, linewidth=1)
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("minutes")
    axes[0].legend()
    with files.whole(path, "wb") as file:
        figure.savefig(file, format="png", dpi=120, bbox_inches="tight")
    plt.close(figure)


def _table(samples: list[_Sample]) -> list[str]:
    """Medians of the four quarters of the time, and what grew after the first."""
    end = max(sample.minutes for sample in samples)
    lines = ["| process | | 1st quarter | 2nd | 3rd | 4th | |", "|---|---|---|---|---|---|---|"]
    for name in dict.fromkeys(sample.name for sample in samples):
        own = [sample for sample in samples if sample.name == name]
        begin = own[0].minutes
        for measure, label in _MEASURES.items():
            quarters: list[list[float]] = [[], [], [], []]
            for sample in own:
                part = int(4 * (sample.minutes - begin) / max(end - begin, 1e-9))
                quarters[min(3, part)].append(getattr(sample, measure))
            medians = [statistics.median(quarter) for quarter in quarters if quarter]
            allowed = _GROWTH[measure] * (medians[1] if measure == "memory" else 1)
            grew = "grows" if medians[-1] - medians[1] > allowed else ""
            cells = " | ".join(f"{median:.0f}" for median in medians)
            lines.append(f"| {name} | {label} | {cells} | {grew} |")
    return lines


def _report(place: pathlib.Path, requests: _Requests) -> None:
    with open(place / "training.log", encoding="utf-8") as log:
        steps = re.findall(r"^step (\d+)", log.read(), re.MULTILINE)
    with open(place / "evaluation.log", encoding="utf-8") as log:
        evaluations = log.read().count("eval/Accuracy[")
    slowest = sorted(requests.seconds)[int(0.99 * len(requests.seconds))]
    say(
        f"{steps[-1]} steps; {evaluations} checkpoints evaluated; {len(requests.seconds)} pictures "
        f"answered, in {statistics.median(requests.seconds):.2f} s (99 %: {slowest:.2f} s)."
    )
    say(f"See {place / 'soak.png'}.")


if __name__ == "__main__":
    command_line.run(main, SoakOptions)
