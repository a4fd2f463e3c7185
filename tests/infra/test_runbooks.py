"""Runbooks: each alarm's page is there, complete, and what it tells a tired person to type exists."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import botocore.session
import pytest
from botocore import xform_name
from infra.test_alarms import every_alarm, notifies, said
from infra.test_dashboards import dashboards
from infra.watched import fill
from sluice_core import LIVE_ALIAS
from sluice_harness.description import ROOT
from sluice_harness.ops.__main__ import main as sluice_ops
from sluice_infra import stages
from sluice_infra.alarm_specs import AlarmSpec
from sluice_infra.alarms import alarm_specs, composite_specs
from sluice_infra.executor_settings import Containers
from sluice_infra.stage_access import may_have_users
from unit.sessions import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from infra.assemblies import Assembly, Properties
    from sluice_infra.alarm_specs import CompositeSpec

pytestmark = pytest.mark.xdist_group("infra")

RUNBOOKS = ROOT / "docs" / "runbooks"
INDEX = RUNBOOKS / "README.md"
SHELL = RUNBOOKS / "shell.sh"
PAGES = sorted(set(RUNBOOKS.glob("*.md")) - {INDEX})
PARTS = ["What it means", "Confirm", "Do", "How to know that it worked"]
A_PAGE = 60  # lines
# Options of the AWS CLI itself ("Command line options", "Using the pagination options").
OF_THE_CLI = {"endpoint-url", "max-items", "output", "query"}
# What it calls otherwise than the API does: SNS's Endpoint, for its own --endpoint-url is like it.
RENAMED = {"notification-endpoint"}
SERVICES = {"deploy": "codedeploy"}
ENGINE = "http://127.0.0.1:4566"
# No service's: `aws configure` writes files, `aws sso login` opens a browser.
SIGNING_IN = {"configure", "sso"}
# It signs in, too, by another operation's name.
OF_NO_API = {("ecr", "get-login-password")}


@pytest.fixture
def prod(synthesized: Callable[[str], Assembly]) -> Assembly:
    return synthesized("prod")


@pytest.fixture
def stages_of_pages(synthesized: Callable[[str], Assembly]) -> list[Assembly]:
    """What pages are about: a stage without external executors, and one with all of them."""
    return [synthesized("prod"), synthesized("longwork")]


def code(page: Path) -> Iterator[str]:
    """What a page sets in code: lines of blocks, with their continuations, and spans."""
    text = page.read_text()
    if page.suffix == ".sh":
        yield from text.replace("\\\n", " ").splitlines()
        return
    blocks = re.findall(r"^ *```sh(?: \w+)?\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL)
    for block in blocks:
        yield from block.replace("\\\n", " ").splitlines()
    rest = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`([^`]+)`", rest)


# Pages with commands for the same shell.
OTHERS = sorted(page for page in ROOT.glob("docs/*.md") if SHELL.name in page.read_text())
DEPLOYING = ROOT / "docs" / "deploying.md"
EVERY_PAGE = pytest.mark.parametrize("page", [*PAGES, INDEX, SHELL, *OTHERS], ids=lambda page: page.name)


# --- the pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_four_parts_and_is_one_page(page: Path) -> None:
    lines = page.read_text().splitlines()
    assert [line.removeprefix("## ") for line in lines if line.startswith("## ")] == PARTS
    assert lines[0].startswith("# ")
    assert len(lines) <= A_PAGE
    for part in re.split(r"^## .*$", page.read_text(), flags=re.MULTILINE):
        assert len(part.split()) >= 5


def test_every_page_is_some_alarm_s() -> None:
    assert {one.runbook for one in specs_with_executors()} == {page.stem for page in PAGES}


def test_links_lead_somewhere() -> None:
    for page in (*PAGES, INDEX):
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            assert (RUNBOOKS / target).is_file(), f"{page.name}: {target}"


# --- the index


def test_the_index_says_of_each_alarm_what_the_template_says(prod: Assembly) -> None:
    rows = [line.strip("| ").split(" | ") for line in INDEX.read_text().splitlines() if line.startswith("| `")]
    indexed = {row[0].strip("`"): row[1:] for row in rows}
    of_prod = {name: _row(alarm) for name, alarm in every_alarm(prod).items()}
    assert {name: row for name, row in indexed.items() if name in of_prod} == of_prod
    # and of those of external executors, which prod has not, as prod would have them
    assert indexed == {one.name: _row_of(one) for one in specs_with_executors()}
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)


def specs_with_executors() -> list[AlarmSpec | CompositeSpec]:
    """The alarms of prod, if it had every executor."""
    every = stages.stage_config("longwork")
    containers = Containers(image=every.batch.image)
    config = replace(
        stages.stage_config("prod"),
        workloads=every.workloads,
        executors=every.executors,
        batch=containers,
        ecs=containers,
    )
    return [*alarm_specs(config), *composite_specs(config)]


def _row_of(spec: AlarmSpec | CompositeSpec) -> list[str]:
    times = ("its alarms", "its alarms")
    severity = str(spec.severity)
    if isinstance(spec, AlarmSpec):
        severity += "" if spec.notifies else ", silent"
        periods = f"{spec.m} of {spec.n}, each {_span(spec.period_s)}"
        times = (periods, _span((spec.n - spec.m + 1) * spec.period_s))
    return [severity, *times, spec.means, f"[{spec.runbook}]({spec.runbook}.md)"]


def _row(alarm: Properties) -> list[str]:
    told = said(alarm)
    page = told["page"].rpartition("/")[2]
    severity = told["severity"] + ("" if notifies(alarm) else ", silent")
    return [severity, *_times(alarm), told["means"], f"[{page.removesuffix('.md')}]({page})"]


def _times(alarm: Properties) -> tuple[str, str]:
    """After how many periods it fires, and after how many without a breach it is OK again."""
    if "Metrics" not in alarm:
        return "its alarms", "its alarms"
    m, n = alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]
    (period,) = {query["MetricStat"]["Period"] for query in alarm["Metrics"] if "MetricStat" in query}
    return f"{m} of {n}, each {_span(period)}", _span((n - m + 1) * period)


def _span(seconds: int) -> str:
    return f"{seconds // 60} min" if seconds < 3_600 else f"{seconds // 3_600} h"


# --- what they refer to


@EVERY_PAGE
def test_widgets_are_on_the_dashboard(page: Path, stages_of_pages: list[Assembly]) -> None:
    titles = {
        f"{dashboard.name.rpartition('-')[2]}/{fill(widget['properties']['title'], dashboard.values)}"
        for stage in stages_of_pages
        for dashboard in dashboards(stage)
        for widget in dashboard.widgets
        if "title" in widget["properties"]
    }
    named = {one for one in code(page) if re.match(r"(operations|functions|executors)/", one)} - {"operations/X"}
    assert named <= titles


def test_pages_look_at_dashboards_and_saved_queries() -> None:
    everything = "\n".join(page.read_text() for page in PAGES)
    assert len(set(re.findall(r"`operations/[^`]+`", everything))) > 15
    assert len(set(re.findall(r"`saved [\w-]+", everything))) >= 6


@EVERY_PAGE
def test_saved_queries_are_there(page: Path) -> None:
    named = {one.split()[1] for one in code(page) if re.match(r"saved [a-z]", one)}
    assert named <= {file.stem for file in (ROOT / "dashboards" / "queries").glob("*.query")}


@EVERY_PAGE
def test_alarms_are_there(page: Path) -> None:
    known = {one.name for one in specs_with_executors()}
    named = set(re.findall(r"(?:\$NAMED-|history_of )([a-z][\w-]*)", "\n".join(code(page))))
    assert named - {"ingestion", "observability"} <= known
    for one in code(page):
        if re.fullmatch(r"[a-z\d*-]*\*[a-z\d*-]*", one):
            assert any(re.fullmatch(one.replace("*", ".+"), name) for name in known), one


@EVERY_PAGE
def test_outputs_are_there(page: Path, stages_of_pages: list[Assembly]) -> None:
    outputs: dict[str, set[str]] = {}
    for stage in stages_of_pages:
        for file in stage.template_files:
            stack = file.name.split(".")[0].removeprefix(f"sluice-{stage.stage}-")
            outputs.setdefault(stack, set()).update(json.loads(file.read_text()).get("Outputs", {}))
    asked = {
        (name, stack or "ingestion")
        for one in code(page)
        for name, stack in re.findall(r"\bout ([A-Z]\w+)(?: (\w+))?", one)
        if name != "KEY"
    }
    asked |= {
        (name, "ingestion") for one in code(page) for name in re.findall(r"\b(?:mappings|crashes) ([A-Z]\w+)", one)
    } - {("FUNCTION", "ingestion")}
    assert [one for one in asked if one[0] not in outputs[one[1]]] == []


# --- what they tell one to type


def test_the_shell_is_one() -> None:
    checked = subprocess.run(["bash", "-n", str(SHELL)], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("described", "named", "region", "endpoint"),
    [
        (("local", "us-east-1", ENGINE), "sluice-local", "us-east-1", ENGINE),
        (("me", "us-east-1", ENGINE), "sluice-me", "us-east-1", ENGINE),
        (("me", "eu-west-1", None), "sluice-me", "eu-west-1", ""),
        (None, "sluice-me", "eu-central-1", ""),
    ],
)
def test_the_shell_finds_a_stage_s_stacks(
    tmp_path: Path, described: tuple[str, str, str | None] | None, named: str, region: str, endpoint: str
) -> None:
    # given the description of a local stage, of one on its engine, of one in AWS, or none, and another region
    if described:
        told = dict(zip(("stage", "region", "endpointUrl"), described, strict=True))
        (tmp_path / "build" / "stages").mkdir(parents=True)
        (tmp_path / "build" / "stages" / "me.json").write_text(json.dumps(told))

    # then its stacks are looked for by its name, where it is, by either version of the CLI
    shown = 'echo "$NAMED $AWS_REGION $AWS_DEFAULT_REGION ${AWS_ENDPOINT_URL:-}"'
    assert said_by(f". {SHELL} me; {shown}", tmp_path, AWS_REGION="eu-central-1") == (
        f"{named} {region} {region} {endpoint}"
    )


def test_the_shell_forgets_a_local_stage(tmp_path: Path) -> None:
    # given a shell that was a local stage's, when it becomes one's in AWS, then nothing of the engine is left
    (tmp_path / "build" / "stages").mkdir(parents=True)
    told = {"stage": "local", "region": "us-east-1", "endpointUrl": ENGINE}
    (tmp_path / "build" / "stages" / "local.json").write_text(json.dumps(told))
    assert said_by(f". {SHELL} local; . {SHELL} me; env | grep ^AWS_", tmp_path) == "AWS_PAGER="


def test_the_shell_tells_the_depth_of_every_queue_that_the_stage_has(tmp_path: Path) -> None:
    # given a stack with the queues of one executor, of which each says by its address how deep it is
    aws = r"""aws() { case $* in
      *describe-stacks*) printf 'RequestQueueUrl\tat/3\nEcsQueueUrl\tat/5\nEcsDlqUrl\tat/7\n' ;;
      *) while [ "$1" != --queue-url ]; do shift; done; echo "$2" ;;
    esac; }"""
    told = said_by(f". {SHELL} me; {aws}; depth", tmp_path)
    assert [line.split() for line in told.splitlines()] == [
        ["RequestQueueUrl", "at/3"],
        ["EcsQueueUrl", "at/5"],
        ["EcsDlqUrl", "at/7"],
    ]


def said_by(script: str, folder: Path, **environment: str) -> str:
    """What a shell says whose only AWS settings are these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.rstrip("\n")


@EVERY_PAGE
def test_commands_of_the_aws_cli_exist(page: Path) -> None:
    for line in code(page):
        for command in re.findall(r"(?<![\w./])aws (?:[a-z-]+) (?:[a-z-]+)[^\n]*", line):
            service, operation, *rest = command.split()[1:]
            if service in SIGNING_IN or (service, operation) in OF_NO_API:
                continue
            service = SERVICES.get(service, service)
            if operation == "wait":
                operation, *rest = rest
                members = _members(service, _asked(service, operation))
            else:
                members = _members(service, operation)
            for option in re.findall(r"(?<!\S)--([a-z-]+)", " ".join(rest).split(" | ")[0]):
                is_known = option.removeprefix("no-") in members or option in OF_THE_CLI | RENAMED
                assert is_known, f"{service} {operation} --{option}"


def _asked(service: str, waiter: str) -> str:
    """What is asked again and again by a command that waits."""
    waiters = botocore.session.get_session().get_waiter_model(service)
    (name,) = [one for one in waiters.waiter_names if xform_name(one, "-") == waiter]
    return str(xform_name(waiters.get_waiter(name).operation, "-"))


def _members(service: str, operation: str) -> set[str]:
    model = botocore.session.get_session().get_service_model(service)
    (name,) = [one for one in model.operation_names if xform_name(one, "-") == operation]
    shape = model.operation_model(name).input_shape
    return set() if shape is None else {xform_name(one, "-") for one in shape.members}


@EVERY_PAGE
def test_commands_ask_of_functions_what_serves(page: Path) -> None:
    # $LATEST runs nowhere, and no mapping feeds it: docs/adr/0017.
    asked = "invoke|get-function-configuration|list-event-source-mappings"
    for line in code(page):
        for command in re.findall(rf"aws lambda (?:{asked}) [^|]*", line):
            assert f"--qualifier {LIVE_ALIAS}" in command or f'):{LIVE_ALIAS}"' in command, command


@EVERY_PAGE
def test_commands_see_all_of_a_stack(page: Path) -> None:
    # "Only the first 100 resources will be returned" (CloudFormation API, DescribeStackResources).
    assert [line for line in code(page) if "describe-stack-resources" in line] == []


@EVERY_PAGE
def test_operator_s_commands_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in code(page):
        assert "sluice-ops --" not in line, "the command comes first"
        if found := re.search(r"sluice-ops ((?:dlq|job|executions|audit|trace)\b.*)", line):
            words = shlex.split(found[1])
            names = words[:2] if words[0] in {"dlq", "job"} else words[:1]
            with pytest.raises(SystemExit) as ended:
                sluice_ops([*names, "--help"])
            assert ended.value.code == 0, line
            shown = capsys.readouterr().out
            for option in re.findall(r"--[a-z-]+", found[1]):
                assert option in shown, line


# --- what else deploying says


def test_the_line_for_a_small_account_is_one() -> None:
    (line,) = re.findall(r"```python\n(.*?)```", DEPLOYING.read_text(), flags=re.DOTALL)
    made = eval(f"{{{line}}}", vars(stages))
    assert made["ann"] == replace(
        stages.stage_config("ann"),
        processor_concurrency=2,
        work_concurrency=2,
        thresholds=stages.Thresholds(account_concurrency=10),
    )


def test_the_policy_has_what_the_commands_call() -> None:
    (text,) = re.findall(r"```json\n(.*?)```", DEPLOYING.read_text(), flags=re.DOTALL)
    granted: dict[str, Properties] = {}
    for one in json.loads(text)["Statement"]:
        actions = [one["Action"]] if isinstance(one["Action"], str) else one["Action"]
        granted |= dict.fromkeys(actions, one)
    assert {action for name in ("describe", "smoke") for action in ACTIONS[name]} < granted.keys()
    assert not [action for action in granted if "*" in action]
    # as the pipelines' own roles have it
    (users,) = [one.to_statement_json() for one in may_have_users("any")]
    tag = {"aws:ResourceTag/project": users["Condition"]["StringEquals"]["aws:ResourceTag/project"]}
    assert granted["cognito-idp:AdminCreateUser"]["Condition"] == {"StringEquals": tag}
