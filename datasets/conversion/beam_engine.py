"""The conversion on many machines, by a runner of Apache Beam.

This machine lists the photographs, on its disk, and reads what the workers have found out; see
`slices` for what these do. Nothing in its memory grows with the number of photographs but the
number of shards.
"""

import collections
import contextlib
import io
import itertools
import json
import logging
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator

from datasets import splits
from datasets.buckets import is_url, join, names, open_file
from datasets.conversion import slices
from datasets.conversion.depth import Used
from datasets.conversion.destination import Destination
from datasets.conversion.job import Job, Photographs
from datasets.conversion.near_duplicates import Pair
from datasets.conversion.shards import Shard
from datasets.conversion.slices import Plan, Work
from datasets.conversion.tally import Counts, Duplicate, Tally
from datasets.disk_table import SortedOnDisk
from datasets.findings import Effect, Finding
from datasets.schema import LabeledImage
from datasets.sources.image_folder import MISSING
from foundation.errors import InputError, Unreadable, UsageError, missing_extra

_LOOKED_FOR = 100  # photographs that workers miss


class BeamEngine:
    """A runner of Apache Beam; see `job.Engine`."""

    def __init__(self, runner: str, flags: str | None = None):
        """
        Args:
          runner: its name, such as DirectRunner.
          flags: the runner's own options as a command line has them.

        Raises:
          InputError: Apache Beam is not installed.
          UsageError: the flags can't be read, or the runner refuses them.
        """
        try:
            with _quiet():
                import apache_beam  # noqa: F401
        except ImportError as error:
            raise missing_extra("beam", "Apache Beam", "runner") from error
        try:
            given = shlex.split(flags or "")
        except ValueError as error:
            raise UsageError(f"{error}.", option="runner_options", value=flags) from error
        self._runner, self._is_direct = runner, runner == "DirectRunner"
        self._flags = [f"--runner={runner}", *given]
        self._pipeline()  # before photographs are listed

    def near_duplicates(
        self, photographs: Photographs, choice: splits.Choice, destination: Destination, job: Job
    ) -> Collection[Pair]:
        from datasets.conversion import beam_pipelines

        found = SortedOnDisk(lambda pair: (pair.first.path, pair.second.path))
        with destination.working() as folder:
            work = _work(folder, photographs, job, choice=choice)
            count = slices.write_list(work.folder, photographs, len(photographs))
            self._run(
                lambda pipeline: beam_pipelines.find_near_duplicates(pipeline, work, count), folder
            )
            for first, second, *rest in _lines(work.folder, "pairs"):
                placed, distance, kept = rest
                images = LabeledImage(*first), LabeledImage(*second)
                found.add(Pair(*images, tuple(placed), distance, kept))
        return found

    @contextlib.contextmanager
    def filling(
        self,
        photographs: Photographs,
        tally: Tally,
        destination: Destination,
        job: Job,
        writes: bool,
    ) -> Iterator[Callable[[], dict[str, list[Shard]]]]:
        from datasets.conversion import beam_pipelines

        with destination.working() as folder:
            work = _work(folder, photographs, job, tally.classes, tally.choice, writes)
            count = slices.write_list(work.folder, photographs, len(photographs))
            with _shown(work.folder, len(photographs), count, job):
                self._run(lambda pipeline: beam_pipelines.convert(pipeline, work, count), folder)
            _raise_failure(work.folder)
            _tell(tally, work.folder, photographs, job)

            def into_shards() -> dict[str, list[Shard]]:
                job.say("Putting the records into shards …")
                number = 1 if destination.is_file else job.destination.num_shards or 0
                plan, groups = Plan(number), names(join(work.folder, "sizes"))
                for group in range(len(groups)):
                    plan.add(slices.read_sizes(work.folder, group))
                plan.save(work.folder)
                self._run(
                    lambda pipeline: beam_pipelines.put_together(
                        pipeline, work.folder, len(groups), destination
                    ),
                    folder,
                )
                return _adopted(work.folder, plan, destination)

            yield into_shards

    def _pipeline(self):
        """An empty pipeline; raises UsageError for a runner or options that Beam refuses."""
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions

        said = io.StringIO()
        try:
            with _quiet(), contextlib.redirect_stderr(said):
                options = PipelineOptions(self._flags)
                options.get_all_options()  # else each is read where it is asked for
                runner = _direct_runner() if self._is_direct else None
                return beam.Pipeline(runner, options)
        except SystemExit as error:
            if not error.code:  # --help
                raise
            problem = said.getvalue().strip().rpartition("error: ")[2]
            raise UsageError(
                _of_beam(problem), option="runner_options", value=" ".join(self._flags[1:])
            ) from error
        except (ValueError, ImportError) as error:
            raise UsageError(
                _of_beam(str(error)),
                option="runner",
                value=self._runner,
                remedy="Give the runner's own options by --runner_options; Beam's pages on it list "
                "them.",
            ) from error

    def _run(self, build: Callable, folder: str) -> None:
        """Runs a pipeline that works in a folder to its end; any error of a transform's.

        Raises:
          InputError: the runner could not begin it, or had to give up.
          Unreadable: a worker could not read a file.
        """
        from apache_beam.runners.runner import PipelineState

        pipeline = self._pipeline()
        build(pipeline)
        try:
            # What fails here raises its trace too.
            quiet = _quiet(logging.ERROR) if self._is_direct else contextlib.nullcontext()
            with _importable(), quiet:
                result = pipeline.run()
                try:
                    state = result.wait_until_finish()
                except KeyboardInterrupt:
                    result.cancel()
                    raise
        except Exception as error:
            _raise_unreadable(folder, error)
            if _is_bug(error, pipeline.runner):
                raise
            raise self._failed(_of_beam(str(error))) from error
        if state != PipelineState.DONE:
            raise self._failed(f"the pipeline ended in the state {state}.")

    def _failed(self, problem: str) -> InputError:
        return InputError(
            problem,
            option="runner",
            value=self._runner,
            remedy="See whether its cluster can be reached from here, by the address and with the "
            "rights that --runner_options gives, and what its own log says.",
        )


def _is_bug(error: Exception, runner: object) -> bool:
    """Whether an error may be one of the transforms', whose trace is worth seeing."""
    kinds = {kind.__name__ for kind in type(runner).mro()}
    elsewhere = kinds & {"PortableRunner", "DataflowRunner"}  # where `run` only hands it over
    of_programs = (TypeError, AttributeError, LookupError, NameError, AssertionError)
    is_of_program = isinstance(error, of_programs) or type(error).__name__ == "PicklingError"
    return not elsewhere or is_of_program or "Traceback (most" in str(error)


def _of_beam(text: str) -> str:
    """The beginning of what Beam says, in one line; it may go on for pages."""
    words = " ".join(text.split()).rstrip(".")
    return f"Beam says: {words[:400]}{' …' if words[400:] else '.'}"


def _raise_unreadable(folder: str, cause: Exception) -> None:
    """Raises Unreadable where a worker has noted a file that it could not read."""
    from datasets.conversion import beam_pipelines

    with contextlib.suppress(FileNotFoundError):
        with open_file(join(folder, beam_pipelines.UNREADABLE)) as file:
            raise Unreadable(json.load(file)) from cause


def _direct_runner():
    """The runner in Python that DirectRunner means: by itself, that downloads another one first."""
    from apache_beam.portability.api import beam_provision_api_pb2
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle

    # Its processes write to this one's screen.
    told = JobServiceHandle.encode_pipeline_options({"default_sdk_harness_log_level": "ERROR"})
    information = beam_provision_api_pb2.ProvisionInfo(pipeline_options=told)
    return fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(information))


@contextlib.contextmanager
def _quiet(level: int = logging.WARNING) -> Iterator[None]:
    """Keeps back what is logged, such as what Beam finds missing for services that nobody uses."""
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)


def _work(folder: str, photographs: Photographs, job: Job, *rest, **more) -> Work:
    """What the workers are told, who may run in another folder than this process."""
    places = (folder, photographs.folder.path)
    places = (place if is_url(place) else os.path.abspath(place) for place in places)
    return Work(*places, job.options, *rest, **more)


@contextlib.contextmanager
def _importable() -> Iterator[None]:
    """Lets the processes that a runner starts here import what this one can."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (*sys.path, before)))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextlib.contextmanager
def _shown(folder: str, total: int, num_slices: int, job: Job) -> Iterator[None]:
    """Shows how many photographs are converted, by the slices whose records are there."""
    ended = threading.Event()

    def come() -> Iterator[None]:
        shown, wait = 0, 1.0
        while not ended.wait(wait):
            began = time.monotonic()
            present = {name.split(".")[0] for name in names(join(folder, "records"))}
            now = total * len(present) // num_slices
            yield from itertools.repeat(None, now - shown)
            shown, wait = now, max(1.0, 20 * (time.monotonic() - began))
        yield from itertools.repeat(None, total - shown)

    def show() -> None:
        with job.shown(come(), "converting", total) as items:
            collections.deque(items, maxlen=0)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _raise_failure(folder: str) -> None:
    try:
        with open_file(join(folder, "failures.json")) as file:
            failures = json.load(file)
    except FileNotFoundError as error:
        raise InputError(
            f"{folder}: what the workers wrote there cannot be seen from here.",
            remedy="Choose a bucket or a folder that all of them share with this machine as "
            "--output_dir.",
        ) from error
    for _, problem in failures:
        raise InputError(json.loads(problem))


def _tell(tally: Tally, folder: str, photographs: Photographs, job: Job) -> None:
    """Tells the tally what the workers have found.

    Raises:
      InputError: a worker lacks photographs that this machine has.
    """
    with open_file(join(folder, "bits.json")) as file:
        if line := Used.of(json.load(file)).mixture():
            job.say(line)
    with open_file(join(folder, "counts.json")) as file:
        tally.merge(Counts.of(json.load(file)))
    missed = 0
    for path, reason, effect, host in _lines(folder, "findings"):
        tally.findings.add(Finding(path, reason, Effect[effect]))
        if reason == MISSING and missed < _LOOKED_FOR:
            missed += 1
            if photographs.folder.version(path):
                raise InputError(
                    f"the worker {host} does not see {path}, which is there for this machine.",
                    option="image_dir",
                    value=photographs.folder.path,
                    remedy="Choose a folder that all workers share.",
                )
    for path, _, same_as, problem in _lines(folder, "duplicates"):
        tally.duplicates.add(Duplicate(path, same_as, problem))


def _lines(folder: str, name: str) -> Iterator[list]:
    """Yields what the groups of a kind hold, each sorted."""
    for group in names(join(folder, name)):
        yield from sorted(slices.read_lines(join(folder, name, group)))


def _adopted(folder: str, plan: Plan, destination: Destination) -> dict[str, list[Shard]]:
    found: dict[str, list[Shard]] = {split: [] for split in sorted(plan.totals)}
    described = list(_lines(folder, "shards_described"))
    for split, _, *shard in sorted(described):
        found[split].append(Shard(*shard))
    for split, total in plan.totals.items():
        there = sum(shard.num_examples for shard in found[split])
        if there != total:
            raise OSError(f"{folder}: the shards of {split} hold {there} of {total} records.")
    destination.adopt(
        {
            shard.file: slices.shard_path(folder, shard.file)
            for shards in found.values()
            for shard in shards
        }
    )
    return found
