"""What an operator sees and does of executions, with `sluice-ops` and the commands of docs/runbooks, typed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from sluice_harness.description import ROOT
from sluice_harness.local import instructions
from sluice_harness.ops.__main__ import main
from stage.running import until

if TYPE_CHECKING:
    from stage.following import Terminal
    from stage.running import Person, RunningStage

    Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.xdist_group("longwork")

RUNBOOKS = ROOT / "docs" / "runbooks" / "README.md"
JOB_TYPES = {"stepfunctions": "weather-workflow", "batch": "weather-batch", "ecs": "weather-task"}
STOPS = {"stepfunctions": "stop-execution", "batch": "terminate-job", "ecs": "stop-task"}
# Longer than the test looks at it.
WORK_S = 45


def told(stage: RunningStage, capture: Capture, *command: str) -> Any:
    """Run a command of the operator tools, and return what it prints for machines."""
    capture.readouterr()
    assert main([*command, "--stage", stage.name, "--json"]) == 0
    return json.loads(capture.readouterr().out)


def documented(operation: str) -> str:
    """The command of the page that does this."""
    (found,) = re.findall(rf"`(aws [a-z]+ {operation} [^`]+)`", RUNBOOKS.read_text())
    return str(found)


@pytest.fixture(scope="module")
def operated(longwork: RunningStage) -> Person:
    return longwork.newcomer("operated")


@pytest.mark.parametrize("executor", JOB_TYPES)
def test_an_execution_is_listed_looked_at_and_stopped(
    longwork: RunningStage, operated: Person, shell: Terminal, capsys: Capture, executor: str
) -> None:
    # given a job that takes long
    shell.type(f". docs/runbooks/shell.sh {longwork.name}")
    job_id = operated.accepted({"jobType": JOB_TYPES[executor], "parameters": {"workSeconds": WORK_S}})

    # when it runs, and executions are listed
    def running() -> dict[str, Any]:
        found = {one["jobId"]: one for one in told(longwork, capsys, "executions")["executing"]}
        return found[job_id] if found.get(job_id, {}).get("status") == "RUNNING" else {}

    execution = until(running, "the job runs")

    # then it is its executor's, and the command that it names shows that the service runs it
    assert execution["executor"] == executor
    shown = shell.type(execution["command"])
    assert execution["handle"] in shown
    assert '"RUNNING"' in shown

    # when it is stopped at its service, as the page says, then its job ends so
    shell.type(documented(STOPS[executor]).replace("HANDLE", execution["handle"]))
    ended = operated.ended(job_id)
    assert (ended["status"], ended.get("error", {}).get("code")) == ("FAILED", "STOPPED")

    # and its row still says where it was, and how to look at it
    row = told(longwork, capsys, "job", "show", job_id, "--owner", operated.sub)["job"]
    assert (row["executor"], row["handle"]) == (executor, execution["handle"])
    assert execution["handle"] in shell.type(row["command"])


def test_whoever_asks_for_a_job_without_its_owner_is_told_how_to_find_the_owner(
    longwork: RunningStage, operated: Person, shell: Terminal, capsys: Capture
) -> None:
    # given a user's job
    job_id = operated.accepted({"parameters": {"records": 5}})

    # when somebody asks for it who does not know whose it is
    assert main(["job", "show", job_id, "--stage", longwork.name]) == 2

    # then the command that is named tells it, for the user's name
    (command,) = re.findall(r"^  (aws .*)$", capsys.readouterr().err, re.MULTILINE)
    shell.type(f". docs/runbooks/shell.sh {longwork.name}")
    assert shell.type(command.replace("NAME", "operated")).strip() == operated.sub


def test_a_job_of_lambda_says_where_its_lines_are(
    longwork: RunningStage, operated: Person, shell: Terminal, capsys: Capture
) -> None:
    # given a job that a function has done
    job_id = operated.accepted({"parameters": {"records": 5}})
    assert operated.ended(job_id)["status"] == "COMPLETED"

    # when its row is looked at, then the command that it names finds how its work ended, and no other job
    row = told(longwork, capsys, "job", "show", job_id, "--owner", operated.sub)["job"]
    assert row["executor"] == "lambda"
    shell.type(f". docs/runbooks/shell.sh {longwork.name}")
    assert "aws logs filter-log-events" in row["command"]
    found = json.loads(shell.type(row["command"]))["events"]
    lines = [json.loads(event["message"]) for event in found]
    assert [(line["jobId"], line["outcome"]) for line in lines] == [(job_id, "completed")]


@pytest.mark.parametrize("executor", [*JOB_TYPES, "lambda"])
def test_what_a_local_stage_prints_shows_a_job_of_each_type_and_cancels_it(
    longwork: RunningStage, shell: Terminal, executor: str
) -> None:
    # given the lines that are printed when the stage is up, which name what runs each type
    printed = instructions(longwork.description, longwork.name, longwork.client("lambda"))
    (kind,) = re.findall(rf"([\w-]+) \({executor}\)", printed)
    blocks = {block.split("\n")[0]: block for block in printed.replace("uv run --no-sync ", "").split("\n\n")}

    def block(about: str) -> str:
        (found,) = [text for title, text in blocks.items() if about in title]
        return found

    # when they are pasted, with a type of this executor
    shell.type(block("a token"))
    shell.type(re.sub("^TYPE=.*", f"TYPE={kind}", block("there are jobs of"), flags=re.MULTILINE))

    # then it runs there, as an operator sees it
    def shown() -> dict[str, str]:
        # A job that was just submitted may not be on record yet.
        lines = shell.type(f"{block('look at it')} || true").splitlines()
        told = dict(line.split(maxsplit=1) for line in lines if len(line.split()) > 1)
        return told if told.get("status") == "RUNNING" else {}

    told = until(shown, "the job runs")
    assert (told["type"], told["executor"]) == (kind, executor)

    # and can be cancelled
    assert json.loads(shell.type(block("cancel it")))["status"] == "CANCELLED"


def test_the_dashboards_of_a_stage_with_executors_are_tested_as_those_of_one_that_is_deployed(
    longwork: RunningStage,
) -> None:
    # when the tests of a deployed stage look at the dashboards, then they know all that executors bring along
    chosen = ["tests/deployed/test_operations.py", "-k", "dashboards", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *chosen, "--stage", longwork.name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
