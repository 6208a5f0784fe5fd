"""Evaluation inside a run: which checkpoint was the best, and when to stop hoping for a better."""

import dataclasses
import json
import os

FOLDER = "best"
_STATE = "best.json"


@dataclasses.dataclass
class Best:
    """The best evaluation so far, whose checkpoint lies apart, and the steps of all evaluations."""

    accuracy: float = -1.0
    step: int = 0
    steps: list[int] = dataclasses.field(default_factory=list)

    @classmethod
    def load(cls, train_dir: str, step: int) -> "Best":
        """As an earlier process left it, for a run that goes on from `step`; else nothing yet."""
        try:
            with open(_path(train_dir), encoding="utf-8") as file:
                content = json.load(file)
            best = cls(content["accuracy"], content["step"], content.get("steps", []))
        except (OSError, ValueError, KeyError, TypeError):
            return cls()
        best.rewind(step)
        return best

    @property
    def since(self) -> int:
        """How many evaluations came after the best."""
        return sum(step > self.step for step in self.steps)

    def rewind(self, step: int) -> None:
        """Forgets the evaluations after `step`, which come again; the best checkpoint stays."""
        self.steps = [earlier for earlier in self.steps if earlier <= step]

    def save(self, train_dir: str) -> None:
        """Writes it beside the best checkpoint; raises OSError."""
        path = _path(train_dir)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.tmp", "w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(self), file)
        os.replace(f"{path}.tmp", path)

    def take(self, accuracy: float, step: int) -> bool:
        """Whether an evaluation is better than all before it."""
        if step not in self.steps:  # else the same weights with renewed statistics
            self.steps.append(step)
        if accuracy <= self.accuracy:
            return False
        self.accuracy, self.step = accuracy, step
        return True


def _path(train_dir: str) -> str:
    return os.path.join(train_dir, FOLDER, _STATE)
