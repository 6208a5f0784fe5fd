"""Evaluation inside a run: which checkpoint is the best, and how many evaluations came after it."""

import dataclasses
import json
import os

from foundation import files
from foundation.errors import InputError

FOLDER = "best"
_STATE = "best.json"


@dataclasses.dataclass
class Best:
    """The best evaluation so far, and the steps of all evaluations.

    The checkpoint of the best one is kept in the folder FOLDER of the train_dir. `resumed` is the
    step of the best one that --resume_from_best went back to.
    """

    accuracy: float = -1.0
    step: int = 0
    steps: list[int] = dataclasses.field(default_factory=list)
    resumed: int = 0

    @classmethod
    def load(cls, train_dir: str, step: int) -> "Best":
        """What an earlier process saved, for a run that goes on from `step`; else an empty one.

        Raises:
          InputError: the file is damaged; to begin anew would replace the best checkpoint by a
            worse one.
        """
        path = _path(train_dir)
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
            best = cls(
                content["accuracy"] + 0.0,
                content["step"] + 0,
                [step + 0 for step in content.get("steps", [])],
                content.get("resumed", 0),
            )
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is damaged, and says no more which checkpoint was the best.",
                remedy=f"Move {os.path.dirname(path)} elsewhere, and the next evaluation begins "
                "another one.",
            ) from error
        best.rewind(step)
        return best

    @property
    def since(self) -> int:
        """How many evaluations came after the best."""
        return sum(step > self.step for step in self.steps)

    def is_final(self, patience: int) -> bool:
        """Whether `patience` evaluations came after the best; 0: never."""
        return 0 < patience <= self.since

    def rewind(self, step: int) -> None:
        """Forgets the evaluations after `step`, which will be repeated; the best one stays."""
        self.steps = [earlier for earlier in self.steps if earlier <= step]

    def save(self, train_dir: str) -> None:
        """Writes it next to the best checkpoint; raises OSError."""
        path = _path(train_dir)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with files.whole(path) as file:
            json.dump(dataclasses.asdict(self), file)

    def take(self, accuracy: float, step: int) -> bool:
        """Counts an evaluation; returns whether it is better than all before it."""
        if step not in self.steps:  # it is: the same weights with recalibrated statistics
            self.steps.append(step)
        if accuracy <= self.accuracy:
            return False
        self.accuracy, self.step = accuracy, step
        return True


def _path(train_dir: str) -> str:
    return os.path.join(train_dir, FOLDER, _STATE)
