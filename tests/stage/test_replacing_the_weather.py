"""`docs/replacing-the-weather.md`, followed literally by one who has never seen the project."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sluice_harness.description import ROOT
from stage.following import blocks, change, copy_checkout, running, surroundings, terminal, write
from stage.running import Person

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stage.following import Block, Terminal

pytestmark = pytest.mark.xdist_group("following")

PAGE = ROOT / "docs" / "replacing-the-weather.md"
# What the page is about, in other words than the page's.
JOB_TYPE = "find-duplicates"
LIST = {"entries": ["Blue Bicycle", "BLUE BICYCLE!", "Red car"]}
WRONG: list[dict[str, Any]] = [{}, {"entries": []}, {**LIST, "similarity": 2}, {**LIST, "colour": "red"}]
PAIRS = ["similarity,first,second", "1.0,Blue Bicycle,BLUE BICYCLE!"]
# Loads every class that the stages name, and tells the smoke test's job.
TELL = """
import json, pathlib, re
from sluice_core.workloads import load_workloads
from sluice_harness.deploy import smoke
stages = pathlib.Path("packages/infra/src/sluice_infra/stages.py").read_text()
load_workloads(",".join(set(re.findall(r"[a-z-]+=[a-z_.]+:[A-Za-z]+", stages))))
print(json.dumps(smoke._JOB))
"""


def test_the_page_leads_to_a_workload_that_clients_use(tmp_path: Path) -> None:
    # given a copy of the repository, and somebody at a terminal in it
    checkout = copy_checkout(tmp_path / "checkout")
    environment = surroundings(checkout, tmp_path / "tools")
    with contextlib.ExitStack() as session:
        shell = session.enter_context(terminal(checkout, environment, tmp_path))

        # when everything that the page says is done, one thing after the other
        printed = ""
        for block in blocks(PAGE):
            if block.kind == "sh terminal":
                token = session.enter_context(running(block.text, checkout, environment, "TOKEN="))
                shell.type(token)
            else:
                printed = follow(block, checkout, shell, printed)

        # then clients have their duplicates found
        http = session.enter_context(httpx.Client(timeout=30))
        api_url = json.loads((checkout / "build" / "stages" / "local.json").read_text())["apiUrl"]
        ann = Person(api_url, token.removeprefix("TOKEN=").strip(), "", http)
        job = ann.ended(ann.accepted({"jobType": JOB_TYPE, "parameters": LIST}))
        assert (job["status"], job["jobType"]) == ("COMPLETED", JOB_TYPE)
        assert http.get(job["result"]["url"]).text.splitlines() == PAIRS

        # and are told at once what cannot be
        for wrong in WRONG:
            assert ann.submit({"jobType": JOB_TYPE, "parameters": wrong}).status_code == 400, wrong

        # and the smoke test's job is one of these, and comes through
        smoke_job = json.loads(run("python", "-c", TELL, cwd=checkout, environment=environment))
        assert smoke_job["jobType"] == JOB_TYPE
        assert ann.ended(ann.accepted(smoke_job))["status"] == "COMPLETED"

    # and what the page has changed is as clean as the rest
    changed = {block.path for block in blocks(PAGE) if block.kind in ("python", "diff")}
    run("ruff", "check", "--quiet", *changed, cwd=checkout, environment=environment)
    run("ruff", "format", "--quiet", "--check", *changed, cwd=checkout, environment=environment)


def follow(block: Block, checkout: Path, shell: Terminal, printed: str) -> str:
    """Do what a block says, and return what was printed last."""
    match block.kind:
        case "python":
            write(block, checkout)
        case "diff":
            change(block, checkout)
        case "sh":
            return shell.type(block.text)
        case "text":
            assert printed.splitlines() == block.text.splitlines()
        case "sh elsewhere":
            # It takes an account of AWS, or a package registry; that there are such sessions is another test's.
            assert all(line.startswith("uvx nox -s ") for line in block.text.splitlines())
        case _:
            pytest.fail(f"nobody knows what to do with a block of {block.kind}")
    return printed


def run(command: str, *arguments: str, cwd: Path, environment: Mapping[str, str]) -> str:
    """Run a command of the environment, and return what it printed."""
    program = [str(cwd / ".venv" / "bin" / command), *arguments]
    done = subprocess.run(program, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_names_all_that_has_to_do_with_the_weather() -> None:
    # given every source that names the weather, or has its parameters
    sources = [*ROOT.glob("packages/*/src/**/*.py"), *ROOT.glob("loadtests/*.py")]
    about = re.compile(r"[Ww]eather|\"(records|workSeconds)\":")
    there = {f"{one.parent.name}/{one.name}" for one in sources if about.search(one.read_text())}

    # then the table of the last section has it, and nothing else
    table = PAGE.read_text().rpartition("| where | what to do |")[2]
    named = {name for row in table.splitlines() for name in re.findall(r"`([\w/]+\.py)`", row.partition(" | ")[0])}
    assert {one for one in there if not {one, one.rpartition("/")[2]} & named} == set()
    assert {name for name in named if not any(one.endswith(name) for one in there)} == set()
