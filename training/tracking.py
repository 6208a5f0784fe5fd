"""Logs a run to MLflow, on request; `mlflow ui` shows it."""

import contextlib
import math
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence

from foundation.errors import InputError, missing_extra
from training.log import Sink
from training.loop import Progress

_SQLITE = "sqlite:///"
# MLflow's limit for the text of a parameter.
_PARAMETER_LENGTH = 6_000


class MlflowRun(Sink):
    """One run of an MLflow experiment, begun or carried on; `lost` once its store is silent.

    Attributes:
      attachments: paths of files to copy to the run when it ends, as far as they are there then.
    """

    attachments: Sequence[str] = ()

    def __init__(
        self,
        uri: str | None,
        experiment: str,
        run_id: str | None = None,
        say: Callable[[str], None] = print,
    ):
        """Opens the run; a new one where there is no `run_id`.

        Args:
          uri: of the store, such as sqlite:///mlflow.db or a server's address. None is MLflow's own
            choice: MLFLOW_TRACKING_URI, else mlflow.db in the working folder.
          experiment: name that the runs are listed under; made if it is not there.
          run_id: of a run to carry on.
          say: gets a line where the store stops answering; nothing more is logged then.

        Raises:
          InputError: MLflow is not installed, or the store can't be reached, can't be written or
            has no such run.
        """
        try:
            import mlflow
        except ImportError as error:
            raise missing_extra("mlflow", "--tracking=mlflow") from error
        self._entities, self._say, self.lost = mlflow.entities, say, False
        self.uri = uri or mlflow.get_tracking_uri()
        _check_writable(self.uri)
        try:
            self._client = mlflow.MlflowClient(self.uri)
            self.run_id = run_id or self._begin(experiment)
            self._client.update_run(self.run_id, status="RUNNING")
        except Exception as error:  # of its stores each raises errors of its own
            raise _unusable(self.uri, str(error).splitlines()[0]) from error

    def _begin(self, experiment: str) -> str:
        known = self._client.get_experiment_by_name(experiment)
        identity = known.experiment_id if known else self._client.create_experiment(experiment)
        return self._client.create_run(identity).info.run_id

    def parameters(self, values: Mapping[str, object]) -> None:
        """Logs what the run is; MLflow keeps a parameter's first value, so do this once."""
        parameters = [
            self._entities.Param(name, str(value)[:_PARAMETER_LENGTH])
            for name, value in values.items()
        ]
        for first in range(0, len(parameters), 100):  # as many as MLflow takes at once
            self._client.log_batch(self.run_id, params=parameters[first : first + 100])

    def progress(self, progress: Progress) -> None:
        """Logs one log line's numbers."""
        self.metrics(progress.tagged(), progress.step)

    def evaluation(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs what an evaluation inside the run found."""
        self.metrics({f"eval/{name}": value for name, value in metrics.items()}, step)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Logs numbers; those that are not finite are left out."""
        now = int(time.time() * 1000)
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        metrics = [self._entities.Metric(name, v, now, step) for name, v in finite.items()]
        self._try(self._client.log_batch, self.run_id, metrics=metrics)

    def file(self, path: str, folder: str | None = None) -> None:
        """Keeps a copy of a file or of a folder's content among the run's artifacts."""
        log = self._client.log_artifacts if os.path.isdir(path) else self._client.log_artifact
        self._try(log, self.run_id, path, folder)

    def close(self, status: str) -> None:
        """Ends the run as "FINISHED", "KILLED" or "FAILED"."""
        for path in filter(os.path.exists, self.attachments):
            self.file(path)
        self._try(self._client.set_terminated, self.run_id, status)

    def _try(self, log: Callable, *args, **kwargs) -> None:
        """A store that does not answer ends no training."""
        if self.lost:
            return
        try:
            log(*args, **kwargs)
        except Exception as error:  # of its stores each raises errors of its own
            self.lost = True
            text = (str(error).splitlines() or [type(error).__name__])[0]
            self._say(f"Warning: MLflow at {self.uri} takes no more of this run: {text}")


def _unusable(uri: str, problem: str) -> InputError:
    return InputError(
        f"can't be used: {problem}",
        option="mlflow_uri",
        value=uri,
        remedy="Correct it, or leave --tracking out.",
    )


def _check_writable(uri: str) -> None:
    """Raises InputError for an SQLite file that can't be written; MLflow would try for minutes."""
    if not uri.startswith(_SQLITE):
        return
    path = uri.removeprefix(_SQLITE)
    try:
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):  # another run is writing; MLflow waits for it
            raise _unusable(uri, f"{error}.") from error
