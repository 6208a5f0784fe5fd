"""Logs a run to MLflow, on request; `mlflow ui` shows it."""

import contextlib
import json
import math
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence

from foundation.errors import InputError, missing_extra
from training.log import Sink
from training.loop import Progress

_SQLITE = "sqlite:///"
_PARENT = "mlflow.parentRunId"
_ACCURACY = "Accuracy"
_DIGEST_LENGTH = 36  # MLflow's limit
# MLflow's limit for the text of a parameter.
_PARAMETER_LENGTH = 6_000


def require() -> None:
    """Raises InputError where the extra `mlflow` is not installed, so that a job stops at once.

    From then on MLflow tells its makers nothing, unless MLFLOW_DISABLE_TELEMETRY=false asks for it.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # which its import looks at
    try:
        import mlflow  # noqa: F401
    except ImportError as error:
        raise missing_extra("mlflow", "--tracking=mlflow") from error


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
        name: str | None = None,
    ):
        """Opens the run; a new one where there is no `run_id`.

        Args:
          uri: of the store, such as sqlite:///mlflow.db or a server's address. None is MLflow's own
            choice: MLFLOW_TRACKING_URI, else mlflow.db in the working folder.
          experiment: name that the runs are listed under; made if it is not there.
          run_id: of a run to carry on.
          say: gets a line where the store stops answering; nothing more is logged then.
          name: of a new run; None: one that MLflow makes up.

        Raises:
          InputError: MLflow is not installed, or the store can't be reached, can't be written or
            has no such run.
        """
        require()
        import mlflow

        self._entities, self._say, self.lost = mlflow.entities, say, False
        self.uri = uri or mlflow.get_tracking_uri()
        _check_writable(self.uri)
        try:
            self._client = mlflow.MlflowClient(self.uri)
            self.run_id = run_id or self._begin(experiment, name)
            self._client.update_run(self.run_id, status="RUNNING")
            known = self._client.get_run(self.run_id).data.metrics
        except Exception as error:  # of its stores each raises errors of its own
            raise _unusable(self.uri, str(error).splitlines()[0]) from error
        self._best = known.get(f"best/{_ACCURACY}", -math.inf)
        self._monitor = None

    def _begin(self, experiment: str, name: str | None) -> str:
        known = self._client.get_experiment_by_name(experiment)
        identity = known.experiment_id if known else self._client.create_experiment(experiment)
        return self._client.create_run(identity, run_name=name).info.run_id

    def adopt(self, run_id: str) -> None:
        """Shows another run below this one."""
        self._try(self._client.set_tag, run_id, _PARENT, self.run_id)

    def parameters(self, values: Mapping[str, object]) -> None:
        """Logs what the run is; MLflow keeps a parameter's first value, so do this once."""
        parameters = [
            self._entities.Param(name, str(value)[:_PARAMETER_LENGTH])
            for name, value in values.items()
        ]
        for first in range(0, len(parameters), 100):  # as many as MLflow takes at once
            self._client.log_batch(self.run_id, params=parameters[first : first + 100])

    def dataset(
        self, name: str, fingerprint: str, place: str, profile: Mapping[str, object]
    ) -> None:
        """Names what the run is trained on, as MLflow lists a run's inputs."""
        digest = fingerprint[:_DIGEST_LENGTH]
        found = self._entities.Dataset(name, digest, "local", place, profile=json.dumps(profile))
        tags = [self._entities.InputTag("mlflow.data.context", "training")]
        given = self._entities.DatasetInput(found, tags)
        self._try(self._client.log_inputs, self.run_id, [given])

    def watch_machine(self) -> None:
        """Has MLflow log the load of processors, memory and GPUs until `close`."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._monitor = SystemMetricsMonitor(
            self.run_id, resume_logging=True, tracking_uri=self.uri
        )
        self._monitor.start()

    def progress(self, progress: Progress) -> None:
        """Logs one log line's numbers."""
        self.metrics(progress.tagged(), progress.step)

    def evaluation(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs what an evaluation inside the run found, and the best accuracy so far."""
        named = {f"eval/{name}": value for name, value in metrics.items()}
        self._best = max(self._best, metrics.get(_ACCURACY, -math.inf))
        self.metrics(named | {f"best/{_ACCURACY}": self._best}, step)

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
        if self._monitor:
            self._monitor.finish()
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
