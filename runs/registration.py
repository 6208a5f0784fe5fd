"""Registers an export with MLflow; the alias `best` is on the most accurate version."""

import contextlib
import dataclasses
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

import serving
from foundation.errors import InputError
from foundation.options import given_values
from runs import splits
from runs.config import RunConfig
from runs.evaluate import evaluate
from runs.options import EvaluateOptions, ExportModelOptions
from training.tracking import MlflowRun

BEST = "best"
_MODEL_CODE = os.path.join(os.path.dirname(serving.__file__), "mlflow_model.py")
# Tags of a version: what `best` is decided by.
_ACCURACY, _SPLIT, _EXAMPLES = "accuracy", "split", "num_examples"
_FINGERPRINT = "dataset_fingerprint"


@dataclasses.dataclass(frozen=True)
class Measured:
    """How accurate an export is, and on which examples.

    Attributes:
      accuracy: 0 to 1.
      split: name of the dataset's split.
      num_examples: of that split.
      fingerprint: changes when a record of the split does.
    """

    accuracy: float
    split: str
    num_examples: int
    fingerprint: str

    @property
    def tags(self) -> dict[str, str]:
        """As a version in MLflow's registry keeps them."""
        return {
            _ACCURACY: repr(self.accuracy),
            _SPLIT: self.split,
            _EXAMPLES: str(self.num_examples),
            _FINGERPRINT: self.fingerprint,
        }

    @classmethod
    def of(cls, tags: dict[str, str]) -> "Measured | None":
        """From a version's tags; None where they are not all there."""
        try:
            return cls(
                float(tags[_ACCURACY]), tags[_SPLIT], int(tags[_EXAMPLES]), tags[_FINGERPRINT]
            )
        except (KeyError, ValueError):
            return None


def measure(
    model: str, config: RunConfig, options: ExportModelOptions, say: Callable[[str], None]
) -> Measured | None:
    """Evaluates an export on the whole split that it was compared on, else the test split.

    Returns:
      None where the run's dataset is not within reach; a line says so.

    Raises:
      InputError: the dataset that the options name can't be used.
    """
    wanted = options.source.dataset_split_name
    try:
        dataset = splits.first_there(config, options.source, (wanted, "test")).dataset
        with tempfile.TemporaryDirectory() as folder:
            given = given_values(options.source) | {"dataset_split_name": dataset.split}
            found = evaluate(
                EvaluateOptions.of(model=model, eval_dir=folder, **given), lambda line: None
            )
    except InputError as error:
        if options.source.is_given:
            raise
        say(f"The export's accuracy is unknown: {error}")
        return None
    say(
        f"Accuracy of the export: {found.accuracy:.4f} on {found.num_examples} examples of split "
        f"{dataset.split}"
    )
    return Measured(found.accuracy, dataset.split, found.num_examples, dataset.fingerprint)


def register(
    name: str,
    saved_model: str,
    examples: Sequence[bytes],
    tracked: MlflowRun,
    measured: Measured | None,
    say: Callable[[str], None],
) -> str:
    """Logs a SavedModel as a model of MLflow, registers it, and gives it the alias if it is best.

    Args:
      name: of the registered model; made if it is not there.
      saved_model: folder of the SavedModel.
      examples: encoded pictures; the first is the model's input example.
      tracked: the run that the model is of.
      measured: how accurate it is, if that is known.
      say: gets lines for the screen.

    Returns:
      the version.

    Raises:
      InputError: MLflow's store does not take it.
    """
    import mlflow

    try:
        with _store(tracked.uri), mlflow.start_run(run_id=tracked.run_id):
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=_MODEL_CODE,
                artifacts={"saved_model": saved_model},
                signature=_signature(),
                input_example=_table(examples[:1]),
                pip_requirements=[f"tensorflow=={tf.__version__}", f"numpy=={np.__version__}"],
                registered_model_name=name,
            )
            client, version = mlflow.MlflowClient(), str(logged.registered_model_version)
            for key, value in (measured.tags if measured else {}).items():
                client.set_model_version_tag(name, version, key, value)
            say(f"MLflow: registered as version {version} of {name}")
            say(move_best(client, name, version, measured))
    except mlflow.MlflowException as error:
        raise InputError(
            f"MLflow at {tracked.uri} does not take it: {str(error).splitlines()[0]}",
            option="register",
            value=name,
            remedy="The export itself is written.",
        ) from error
    return version


def move_best(client, name: str, version: str, measured: Measured | None) -> str:
    """Puts the alias `best` on a version that is better than the one that has it.

    Better is what is more accurate on the same examples. The first version that is measured gets
    the alias where none has it.

    Args:
      client: mlflow.MlflowClient.
      name: of the registered model.
      version: the new one.
      measured: its accuracy, if that is known.

    Returns:
      a line that says where the alias is, and why.
    """
    if measured is None:
        return f"The alias {BEST} is not touched: the accuracy of version {version} is unknown."
    moved = f"The alias {BEST} is now on version {version}"
    holder = client.get_registered_model(name).aliases.get(BEST)  # text or int, by the store
    if holder is not None:
        theirs = Measured.of(client.get_model_version(name, holder).tags)
        stays = f"The alias {BEST} stays on version {holder}, "
        by_hand = (
            f" To move it: mlflow.MlflowClient().set_registered_model_alias({name!r}, {BEST!r}, "
            f"{version!r})"
        )
        if theirs is None:
            return f"{stays}which was not measured.{by_hand}"
        if theirs.fingerprint != measured.fingerprint:
            return (
                f"{stays}which was measured on other examples (split {theirs.split}, "
                f"{theirs.num_examples} of them).{by_hand}"
            )
        if measured.accuracy <= theirs.accuracy:
            return f"{stays}whose accuracy on these examples is {theirs.accuracy:.4f}."
        moved += f", moved from version {holder} ({theirs.accuracy:.4f})"
    client.set_registered_model_alias(name, BEST, version)
    return f"{moved}."


@contextlib.contextmanager
def _store(uri: str) -> Iterator[None]:
    """Has MLflow's own functions use a store while the block runs, without telling what they do."""
    import mlflow

    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    bar = mlflow.environment_variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
    logger, shows_bar = logging.getLogger("mlflow"), bar.get()
    level = logger.level
    mlflow.set_tracking_uri(uri)
    bar.set(False)
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
        bar.set(shows_bar)
        mlflow.set_tracking_uri(before)


def _table(examples: Sequence[bytes]):
    """What the model takes."""
    import pandas as pd

    return pd.DataFrame({"image": list(examples)})


def _signature():
    """What the model takes and gives, as `serving/mlflow_model.py` describes it."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    return ModelSignature(
        Schema([ColSpec(DataType.binary, "image")]),
        Schema(
            [
                ColSpec(DataType.string, "label"),
                ColSpec(DataType.double, "probability"),
                ColSpec(Array(DataType.string), "labels"),
                ColSpec(Array(DataType.double), "probabilities"),
                ColSpec(DataType.boolean, "valid"),
                ColSpec(DataType.string, "status"),
            ]
        ),
    )
