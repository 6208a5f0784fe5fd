"""The jobs, and the seed of the random moments: new each time, or that of FAULT_SEED."""

import os
import time

import pytest

from tests.faults import jobs
from tests.forked import run_script

# In the environment, so that all workers of a run have the same.
SEED = int(os.environ.setdefault("FAULT_SEED", str(int(time.time()) % 100_000)))


def pytest_report_header() -> str:
    return f"FAULT_SEED={SEED} draws these moments again"


@pytest.fixture(scope="session")
def seed() -> int:
    print(f"FAULT_SEED={SEED}")
    return SEED


@pytest.fixture(scope="session")
def all_jobs(colours, tmp_path_factory) -> dict[str, jobs.Job]:
    run_script("-c", "pass")  # the process that forks the others is there from here on
    place = tmp_path_factory.mktemp("inputs")
    trained = jobs.tiny_training(place / "trained")
    return {
        "training": jobs.training(colours),
        "conversion": jobs.conversion(jobs.photographs(place / "photographs")),
        "evaluation": jobs.evaluation(colours, trained),
        "export": jobs.export(colours, trained),
        "search": jobs.search(colours, place),
        "search_of_trainings": jobs.search_of_trainings(colours),
    }


@pytest.fixture(
    params=["training", "conversion", "evaluation", "export", "search", "search_of_trainings"]
)
def job(request, all_jobs) -> jobs.Job:
    return all_jobs[request.param]
