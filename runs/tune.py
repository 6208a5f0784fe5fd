"""The search for the best settings: trials in processes, hopeless ones ended, an Optuna study."""

import contextlib
import dataclasses
import json
import math
import os
import shlex
import time
import warnings
from collections.abc import Callable, Iterator, Mapping

from datasets import tfrecord_dataset
from foundation import files
from foundation import options as foundation_options
from foundation.errors import InputError, missing_extra
from runs import config as run_config
from runs import recipes, search_space, splits, tuning_page
from runs.options import TrainOptions, TuneOptions
from runs.search_space import Dimension
from runs.trial_process import LOG, TrialProcess
from training import validation

PAGE = "tuning.html"
_STUDY = "slim_image_classifiers"
_EVALUATIONS = 10  # of a trial, where --eval_every_n_steps says nothing
POLL_SECS = 0.5
# A process that does not answer for so long is taken for dead, and its trial begun anew.
HEARTBEAT_SECS, GRACE_SECS = 10, 60
_MOST_FAILURES = 3  # before any success
_FAILED = "failed"  # attribute of a trial: what was wrong
# Of the search itself, or set anew for each trial.
_NOT_A_TRIAL_S = {"search", "study", "max_trials", "pruner", "train_dir", "max_minutes"}


class _TrialFailedError(Exception):
    """A training that ended with an error."""


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
      accuracy: of the best trial, on the validation split.
      command: that trains it anew.
      folder: its train_dir.
      num_trials: that the study has by now, those of other processes included.
    """

    accuracy: float
    command: str
    folder: str
    num_trials: int


def tune(options: TuneOptions, say: Callable[[str], None] = print) -> Tuned | None:
    """Runs trials until --max_trials or --max_minutes; a study that is there is gone on with.

    Returns:
      The best trial; None where none has come to an end.

    Raises:
      InputError: options that make no sense, another search's study, or every trial fails.
      OSError: a file can't be written.
    """
    try:
        import optuna
    except ImportError as error:
        raise missing_extra("tune", "tune_image_classifier.py") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = _Search.of(options, say)
    os.makedirs(search.train_dir, exist_ok=True)
    with _study_told(search):
        return _tuned(optuna, search)


def _tuned(optuna, search: "_Search") -> Tuned | None:
    """Opens the study and runs the trials that it lacks."""
    options, say = search.options, search.say
    folder = os.path.dirname(os.path.abspath(_path(search)))
    os.makedirs(folder, exist_ok=True)
    with files.locked(folder, wait=True):  # Optuna makes its tables unaware of other processes
        study = _study(optuna, search)
    wanted = options.tuning.max_trials

    def after(study, trial) -> None:
        done = _ended(study)
        say(search.line(study, trial, done, wanted))
        hopeless = len(done) >= _MOST_FAILURES and _all_failed(done)
        if len(done) >= wanted or hopeless:
            study.stop()

    with search.tracked():
        if len(_ended(study)) < wanted:
            try:
                study.optimize(
                    search.objective,
                    timeout=None if math.isinf(search.seconds_left()) else search.seconds_left(),
                    callbacks=[after],
                    catch=(_TrialFailedError,),
                )
            except KeyboardInterrupt:
                _finished(search, study)
                raise
        return _finished(search, study)


@dataclasses.dataclass
class _Search:
    """A search of this process.

    Attributes:
      base: what every trial has besides what it tries, option name → value by hand.
      space: what is tried.
      num_examples: of the training split.
      experiment: of MLflow.
      parent: the run of MLflow that the trials' runs belong to, or None.
    """

    options: TuneOptions
    base: Mapping[str, object]
    space: Mapping[str, Dimension]
    num_examples: int
    experiment: str
    say: Callable[[str], None]
    began: float = dataclasses.field(default_factory=time.monotonic)
    parent: object = None

    @classmethod
    def of(cls, options: TuneOptions, say: Callable[[str], None]) -> "_Search":
        space = options.space
        source = options.source
        dataset = tfrecord_dataset.find(
            split=source.dataset_split_name, **splits.place(None, source)
        )
        by_hand = foundation_options.given_values(options)
        name = options.recipe_file.recipe
        implied = recipes.read(name, TrainOptions) if name else {}
        base = {
            key: value
            for key, value in by_hand.items()
            if key not in _NOT_A_TRIAL_S | space.keys()
            and not (key in implied and implied[key] == value)
        }
        experiment = options.training.tracking.experiment or dataset.name or "tuning"
        return cls(options, base, space, dataset.num_examples, experiment, say)

    @property
    def train_dir(self) -> str:
        return self.options.training.train_dir

    def seconds_left(self) -> float:
        """Of --max_minutes; infinity where that is not set."""
        limit = self.options.training.length.max_seconds
        return max(0.0, limit - (time.monotonic() - self.began))

    def folder(self, number: int) -> str:
        """A trial's train_dir."""
        return os.path.join(self.train_dir, f"trial_{number:04}")

    def flags(self, tried: Mapping[str, str]) -> list[str]:
        """The command line of a trial, without its folder."""
        evaluated = {"eval_every_n_steps": self._eval_every(tried)}
        return search_space.flags({**evaluated, **self.base, **tried})

    def objective(self, trial) -> float:
        """Trains with what Optuna proposes; returns the best accuracy of its evaluations.

        Raises:
          TrialPruned: it is hopeless, or the time is over.
          _TrialFailedError: the training ended with an error.
        """
        import optuna

        values = foundation_options.values(self.options)
        tried = search_space.suggest(self.space, values, trial)
        trial.set_user_attr("tried", tried)
        flags = self.flags(tried)
        if self.parent:
            flags += [f"--experiment={self.experiment}", f"--mlflow_uri={self.parent.uri}"]
        reported = 0
        with TrialProcess(self.folder(trial.number), flags) as process:
            try:
                while True:
                    code = process.wait(POLL_SECS)
                    found = process.accuracies()
                    for accuracy in found[reported:]:
                        reported += 1
                        trial.report(accuracy, reported)
                        if code is None and trial.should_prune():
                            raise optuna.TrialPruned
                    if code is not None:
                        break
                    if not self.seconds_left():
                        raise optuna.TrialPruned
            except KeyboardInterrupt:
                trial.study.enqueue_trial(trial.params)  # for who goes on with the study
                raise
            finally:
                self._adopt(trial.number)
            if code or not found:
                words = process.last_words()
                trial.set_user_attr(_FAILED, words)
                raise _TrialFailedError(words)
        return max(found)

    def line(self, study, trial, done: list, wanted: int) -> str:
        """What to say of a trial that ended."""
        tried = "  ".join(f"{k}={v}" for k, v in trial.user_attrs.get("tried", {}).items())
        if trial.state.name == "FAIL":
            log = os.path.join(self.folder(trial.number), LOG)
            return f"trial {trial.number} failed: {trial.user_attrs[_FAILED]} ({log})  {tried}"
        shown = f"trial {trial.number}: {trial.value or 0:.4f}"
        if trial.state.name == "PRUNED":
            shown += f", ended after {len(trial.intermediate_values)} evaluations"
        best = _best(study)
        record = f"best {best.value:.4f}, trial {best.number}" if best else "no best yet"
        left = self._time_left(done, wanted)
        return f"{shown} ({record})  {tried}  {len(done)} of {wanted} trials{left}"

    def _time_left(self, done: list, wanted: int) -> str:
        durations = [trial.duration.total_seconds() for trial in done if trial.duration]
        if not durations or len(done) >= wanted:
            return ""
        expected = (wanted - len(done)) * sum(durations) / len(durations)
        minutes = math.ceil(min(expected, self.seconds_left()) / 60)
        return f", about {minutes} min left"

    def _eval_every(self, tried: Mapping[str, str]) -> int:
        """Steps between two evaluations: by hand, or so many that a trial has _EVALUATIONS."""
        known = {one.name: one for one in foundation_options.all_options(TrainOptions)}
        changes = {name: known[name].read(text) for name, text in tried.items()}
        training = foundation_options.changed(self.options.training, changes)
        if training.validation.eval_every_n_steps:
            return training.validation.eval_every_n_steps
        images = training.batch.images_per_step(1, training.machine.num_clones)
        return max(1, training.length.last_step(self.num_examples, images) // _EVALUATIONS)

    @contextlib.contextmanager
    def tracked(self) -> Iterator[None]:
        """Keeps a run of MLflow that the trials' runs belong to, where --tracking asks for it."""
        tracking = self.options.training.tracking
        if tracking.tracking != "mlflow":
            yield
            return
        from training.tracking import MlflowRun

        self.parent = MlflowRun(
            tracking.mlflow_uri, self.experiment, name=os.path.basename(self.train_dir)
        )
        status = "KILLED"
        try:
            self.parent.parameters({"search": self.options.tuning.search, **self.base})
            yield
            status = "FINISHED"
        finally:
            self.parent.attachments = [os.path.join(self.train_dir, PAGE)]
            self.parent.close(status)

    def _adopt(self, number: int) -> None:
        """Makes a trial's run of MLflow one of the search's."""
        path = os.path.join(self.folder(number), run_config.FILE_NAME)
        if self.parent and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                self.parent.adopt(json.load(file)["mlflow_run_id"])


def _path(search: _Search) -> str:
    """Where the study lies."""
    return search.options.tuning.study or os.path.join(search.train_dir, "study.db")


@contextlib.contextmanager
def _study_told(search: _Search) -> Iterator[None]:
    """Makes a line of what SQLite says of the study's file: a full disk, one that can't be written.

    Raises:
      OSError: it could not be read or written.
    """
    from sqlalchemy import exc

    try:
        yield
    except InputError:
        raise
    except Exception as error:
        cause = error
        while cause and not isinstance(cause, exc.OperationalError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        path = _path(search)
        raise OSError(f"{path}: {cause.orig}. The same command goes on once it can be.") from error


def _study(optuna, search: _Search):
    """The study of --study, begun or found; raises InputError where it is another search's."""
    path = _path(search)
    # Heartbeats are experimental since Optuna 2.9.
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    try:
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{os.path.abspath(path)}",
            engine_kwargs={"connect_args": {"timeout": 60}},  # for the locks of other processes
            heartbeat_interval=HEARTBEAT_SECS,
            grace_period=GRACE_SECS,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(1),
        )
    except Exception as error:  # no SQLite, another program's, one that can't be opened
        raise InputError(
            f"can't be opened as a study of Optuna's: {str(error).splitlines()[0]}",
            option="study",
            value=path,
            remedy="Name another file; one that is not there is made.",
        ) from error
    wanted = search.options.tuning.max_trials
    study = optuna.create_study(
        storage=storage,
        study_name=_STUDY,
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(n_startup_trials=min(10, max(3, wanted // 3))),
        pruner=_pruner(optuna, search.options.tuning.pruner),
    )
    about = {"search": search.options.tuning.search, "flags": search_space.flags(search.base)}
    known = study.user_attrs.get("about")
    if known and known != about:
        raise InputError(
            f"is of another search: {known['search']} with {' '.join(known['flags'])}.",
            option="study",
            value=path,
            remedy="Repeat its command, or name another --study and --train_dir.",
        )
    study.set_user_attr("about", about)
    optuna.storages.fail_stale_trials(study)
    return study


def _pruner(optuna, name: str):
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(1, _EVALUATIONS, 3)
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2)
    return optuna.pruners.NopPruner()


def _ended(study) -> list:
    """The trials that have come to an end of their own, in whatever process.

    One that was killed or stopped by Ctrl-C is repeated, and does not count.
    """
    trials = study.get_trials(deepcopy=False)
    return [
        trial
        for trial in trials
        if trial.state.is_finished() and (trial.state.name != "FAIL" or _FAILED in trial.user_attrs)
    ]


def _all_failed(trials: list) -> bool:
    return all(trial.state.name == "FAIL" for trial in trials)


def _best(study):
    done = [trial for trial in _ended(study) if trial.state.name == "COMPLETE"]
    return max(done, key=lambda trial: trial.value, default=None)


def _finished(search: _Search, study) -> Tuned | None:
    """Says who won, and writes the page."""
    done, best = _ended(study), _best(study)
    if best is None:
        if done and _all_failed(done):
            log = os.path.join(search.folder(done[-1].number), LOG)
            raise InputError(f"each of the {len(done)} trials failed; the last one's log is {log}.")
        search.say("No trial has come to its end yet; the same command goes on.")
        return None
    folder = search.folder(best.number)
    winner = os.path.join(search.train_dir, "winner")
    words = ["python", "train_image_classifier.py", f"--train_dir={winner}"]
    command = shlex.join([*words, *search.flags(best.user_attrs["tried"])])
    tuned = Tuned(best.value, command, folder, len(done))
    page = os.path.join(search.train_dir, PAGE)
    if search.parent:
        search.parent.metrics({"best/Accuracy": best.value}, len(done))
    tuning_page.write(page, f"Search in {search.train_dir}", command, _rows(search, done), study)
    kept = os.path.join(folder, validation.FOLDER)
    search.say(f"The best of {len(done)} trials: accuracy {best.value:.4f}, kept in {kept}. Again:")
    search.say(f"  {command}")
    search.say(f"{page} shows the search. Next:")
    kept = shlex.quote(f"--checkpoint_path={kept}")
    search.say(f"  python eval_image_classifier.py {kept} --eval_dir=EVAL_DIR")
    search.say(f"  tensorboard {shlex.quote(f'--logdir={search.train_dir}')}")
    return tuned


def _rows(search: _Search, done: list) -> list[list[str]]:
    """The trials as a table, the best first."""
    names = list(search.space)
    rows = [["trial", "accuracy", "ended", *names, "minutes"]]
    for trial in sorted(done, key=lambda one: (one.state.name != "COMPLETE", -(one.value or 0))):
        tried = trial.user_attrs.get("tried", {})
        value = "" if trial.value is None else f"{trial.value:.4f}"
        minutes = f"{trial.duration.total_seconds() / 60:.1f}" if trial.duration else ""
        shown = [tried.get(name, "") for name in names]
        rows.append([str(trial.number), value, trial.state.name.lower(), *shown, minutes])
    return rows
