"""docs/cluster.md's script and manifest name flags that exist, and give each worker its place."""

import re
import subprocess

import pytest
import yaml

from foundation import options
from runs.options import JOBS
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")


def block(name):
    """The code after a comment of the page."""
    return re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)[1]


def read(script, words):
    """The options that a script reads of its words; fails where it would refuse them."""
    known = {one.name: one for one in options.all_options(JOBS[script])}
    given = {}
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        assert word.startswith("--") and equals, word
        given[name] = known[name].read(value)
    found = JOBS[script].of(**given)
    options.check(found)
    return found


def test_every_flag_of_the_page_is_one():
    known = {one.name for job in JOBS.values() for one in options.all_options(job)}
    named = re.findall(r"`--([a-z_]+)", PAGE) + re.findall(r"^ *--([a-z_]+)=", PAGE, re.MULTILINE)
    theirs = {"signal", "requeue"}  # Slurm's
    assert set(named) - theirs <= known
    commands = re.findall(r"^python (\w+\.py) ((?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 4
    for script, words in commands:
        read(script, words.replace("\\\n", " ").split())


def test_kubernetes():
    service, job = yaml.safe_load_all(block("kubernetes"))
    spec, name = job["spec"], job["metadata"]["name"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"][0] == "python"
    indices = range(spec["completions"])
    hosts = tuple(f"{name}-{i}.{pod['subdomain']}:2222" for i in indices)
    for i in indices:
        words = [word.replace("$(JOB_COMPLETION_INDEX)", str(i)) for word in container["args"]]
        machine = read(container["command"][1], words).training.machine
        assert (machine.worker_hosts, machine.task) == (hosts, i)
    # Pods have these names while all run at once, under a headless Service of their own.
    assert spec["completionMode"] == "Indexed" and spec["parallelism"] == spec["completions"]
    assert (
        service["spec"]["clusterIP"] == "None" and service["metadata"]["name"] == pod["subdomain"]
    )
    assert service["spec"]["selector"] == {"job-name": name}
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["values"] == [1, 2]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert pod["restartPolicy"] == "Never"  # which podFailurePolicy needs
    claims = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == claims


def test_the_image_holds_the_repository_alone():
    """What git leaves out, such as 4 GB of packages, has no place in it."""
    assert "COPY . ." in PAGE
    left_out, ignored = (
        {line.strip("/").removeprefix("**/") for line in (ROOT / name).read_text().splitlines()}
        for name in (".dockerignore", ".gitignore")
    )
    assert ignored - {"*.pyc"} < left_out and ".git" in left_out


PROGRAMS = {
    "scontrol": 'echo "scontrol $*" >> calls\nif [ $1 = show ]; then printf "n%s\\n" 1 2 3 4; fi',
    "srun": 'while [[ $1 == --* ]]; do echo "srun $1" >> calls; shift; done\n'
    'for i in 0 1 2 3; do SLURM_PROCID=$i "$@" || exit; done',
    "python": 'echo "$*" >> started\nexit $CODE',
}


@pytest.mark.parametrize(("code", "again"), [(0, False), (1, False), (75, True), (143, True)])
def test_slurm(tmp_path, code, again):
    """The script runs with programs that stand for Slurm's."""
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "CODE": str(code)}
    asked = re.search(r"^#SBATCH --cpus-per-task=(\d+)$", block("slurm"), re.MULTILINE)[1]
    env |= {"SLURM_JOB_NODELIST": "n[1-4]", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": asked}
    done = subprocess.run(["bash", "-c", block("slurm")], cwd=tmp_path, env=env)
    assert done.returncode == code
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0] == "scontrol show hostnames n[1-4]"
    # Of what sbatch was told, srun takes over no --cpus-per-task from Slurm 22.05 on.
    flags = ["srun --kill-on-bad-exit=1", f"srun --cpus-per-task={asked}"]
    assert calls[1:] == flags + ["scontrol requeue 7"] * again
    started = (tmp_path / "started").read_text().splitlines()
    assert len(started) == (4 if code == 0 else 1)
    for i, words in enumerate(started):
        script, *words = words.split()
        machine = read(script, words).training.machine
        assert machine.worker_hosts == ("n1:2222", "n2:2222", "n3:2222", "n4:2222")
        assert (machine.task, machine.num_clones) == (i, 8)
