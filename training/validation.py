"""Evaluation inside a run: which checkpoint was the best, and when to stop hoping for a better."""

import dataclasses
import json
import os

FOLDER = "best"
_STATE = "best.json"


@dataclasses.dataclass
class Best:
    """The best evaluation so far, and how many came after it."""

    accuracy: float = -1.0
    step: int = 0
    since: int = 0

    @classmethod
    def load(cls, train_dir: str, step: int) -> "Best":
        """As an earlier process left it at or before `step`; else nothing yet."""
        try:
            with open(_path(train_dir), encoding="utf-8") as file:
                best = cls(**json.load(file))
        except (OSError, ValueError, TypeError):
            return cls()
        return best if best.step <= step else cls()

    def save(self, train_dir: str) -> None:
        """Writes it beside the best checkpoint; raises OSError."""
        path = _path(train_dir)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.tmp", "w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(self), file)
        os.replace(f"{path}.tmp", path)

    def take(self, accuracy: float, step: int) -> bool:
        """Whether an evaluation is better than all before it."""
        if accuracy > self.accuracy:
            self.accuracy, self.step, self.since = accuracy, step, 0
            return True
        self.since += 1
        return False


def _path(train_dir: str) -> str:
    return os.path.join(train_dir, FOLDER, _STATE)
