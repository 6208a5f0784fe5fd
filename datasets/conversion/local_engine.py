"""The conversion on this machine: threads make records, and this one puts them into shards."""

import contextlib
from collections.abc import Callable, Collection, Generator, Iterator

from datasets import splits
from datasets.conversion import near_duplicates, records, workers
from datasets.conversion.depth import Depth
from datasets.conversion.destination import Destination
from datasets.conversion.job import Job, Photographs
from datasets.conversion.near_duplicates import Pair
from datasets.conversion.records import Record, RecordMaker
from datasets.conversion.shards import Shard, ShardWriter
from datasets.conversion.survey import Survey
from datasets.conversion.tally import Tally
from datasets.schema import LabeledImage


class LocalEngine:
    """Threads of this process; see `job.Engine`."""

    def near_duplicates(
        self, photographs: Photographs, choice: splits.Choice, destination: Destination, job: Job
    ) -> Collection[Pair]:
        return near_duplicates.find(list(photographs), photographs.folder, choice, job.num_workers)

    @contextlib.contextmanager
    def filling(
        self,
        photographs: Photographs,
        tally: Tally,
        destination: Destination,
        job: Job,
        writes: bool,
    ) -> Iterator[Callable[[], dict[str, list[Shard]]]]:
        numbers = {name: i for i, name in enumerate(tally.classes)}
        bits = Depth(job.options.sixteen_bit, lambda: _bits_used(photographs, job.say))
        maker = RecordMaker(photographs.folder, numbers, job.options, bits, job.whitening)
        results = workers.results(photographs, maker.make, job.num_workers)
        if job.survey:
            results = _surveyed(results, job.survey)
        writer = ShardWriter(destination, job.destination.num_shards or 0)
        with (
            contextlib.closing(results),
            contextlib.closing(writer),
            job.shown(results, "converting", len(photographs)) as shown,
        ):
            for image, result in shown:
                split = tally.add(image, result)
                if split and writes:
                    writer.add(split, result.framed)
                    if job.whitening and split == tally.training_split:
                        job.whitening.add(result.small)
            yield writer.name_shards


def _surveyed(
    results: Generator[tuple[LabeledImage, Record | str]], survey: Survey
) -> Generator[tuple[LabeledImage, Record | str]]:
    with contextlib.closing(results):
        for image, result in results:
            if not isinstance(result, str):
                survey.add(image, result)
            yield image, result


def _bits_used(photographs: Photographs, say: Callable[[str], None]) -> Iterator[int]:
    """Yields the bits that each 16-bit photograph uses; says where they differ."""
    say("Finding out how many bits the 16-bit photographs use …")
    used = records.used_bits(photographs.folder, photographs)
    if line := used.mixture():
        say(line)
    yield from used.counts
