"""What a conversion is given: photographs, options, and the engine that goes through them."""

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from typing import Protocol

from datasets import splits
from datasets.conversion.destination import Destination
from datasets.conversion.near_duplicates import Pair
from datasets.conversion.records import Whitening
from datasets.conversion.shards import Shard
from datasets.conversion.survey import Survey
from datasets.conversion.tally import Tally
from datasets.disk_table import DiskTable
from datasets.findings import Finding
from datasets.options import ConversionOptions, DestinationOptions
from datasets.schema import LabeledImage
from datasets.sources.image_folder import ImageFolder
from foundation import machine

# Yields items and shows how many came; of (items, what is done with them, their number or None).
Progress = Callable[[Iterable, str, int | None], Generator]


def unshown(items: Iterable, text: str, total: int | None) -> Generator:
    """The progress that shows nothing."""
    yield from items


@dataclasses.dataclass(frozen=True)
class Source:
    """Photographs with their labels.

    Attributes:
      items: what a reader yields.
      folder: where the photographs are.
      classes: class names in the order of their numbers; empty: the sorted names of the labels.
    """

    items: Iterable[LabeledImage | Finding]
    folder: ImageFolder
    classes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Photographs:
    """The photographs of a conversion, listed.

    Attributes:
      table: each under the hash of its path, by which they are put in order.
      folder: where they are.
    """

    table: DiskTable
    folder: ImageFolder

    def __iter__(self) -> Iterator[LabeledImage]:
        return self.table.by_key()

    def __len__(self) -> int:
        return len(self.table)


class Engine(Protocol):
    """What goes through the photographs. Every engine makes the same dataset, to the byte."""

    def near_duplicates(
        self, photographs: Photographs, choice: splits.Choice, destination: Destination, job: "Job"
    ) -> Collection[Pair]:
        """See `near_duplicates.find`."""

    def filling(
        self,
        photographs: Photographs,
        tally: Tally,
        destination: Destination,
        job: "Job",
        writes: bool,
    ) -> contextlib.AbstractContextManager[Callable[[], dict[str, list[Shard]]]]:
        """Makes all records and tells the tally of them.

        Args:
          photographs: what to make records of.
          tally: takes in what they are.
          destination: where the dataset goes; its `writing` is entered where something is written.
          job: how it is to go.
          writes: whether records are kept.

        Returns:
          Within the block, what puts the kept records into shards, by split. After the block,
          nothing is left but these.
        """


@dataclasses.dataclass(frozen=True)
class Job:
    """How a conversion is to go.

    Attributes:
      destination: where the dataset goes; an earlier one there is only replaced when the new one
        is whole.
      options: what is stored, and what is refused.
      flags: what dataset.json keeps of the options; a finished dataset of the same flags and
        photographs is left as it is, unless it is to be overwritten: its shards may be damaged.
      whitening: fitted to the training photographs; None for none.
      engine: goes through the photographs.
      survey: takes in each example; with one, all photographs are read even where nothing is to be
        written anew. None for none.
      say: gets a line for what is done.
      progress: shows how far it is.
    """

    destination: DestinationOptions
    options: ConversionOptions
    engine: Engine
    flags: Mapping[str, object] = dataclasses.field(default_factory=dict)
    whitening: Whitening | None = None
    survey: Survey | None = None
    say: Callable[[str], None] = print
    progress: Progress = unshown

    @property
    def num_workers(self) -> int:
        return self.options.num_workers or machine.num_processors()

    @contextlib.contextmanager
    def shown(self, items: Iterable, text: str, total: int | None = None) -> Iterator[Iterator]:
        """The items, shown in a bar that ends with the block."""
        with contextlib.closing(self.progress(items, text, total)) as shown:
            yield shown
