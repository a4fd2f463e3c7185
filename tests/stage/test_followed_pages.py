"""Commands of docs/deploying.md and docs/releasing.md, typed as they stand there, on the local stage."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sluice_core import LIVE_ALIAS
from sluice_harness.description import ROOT
from sluice_harness.live_functions import live
from stage.following import blocks
from stage.running import Person

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.following import Terminal
    from stage.running import RunningStage

pytestmark = pytest.mark.xdist_group("stage")

DEPLOYING, RELEASING = (ROOT / "docs" / name for name in ("deploying.md", "releasing.md"))
# Since its module is missing, each invocation fails.
BROKEN = io.BytesIO()
with zipfile.ZipFile(BROKEN, "w") as archive:
    archive.writestr("README.txt", "a release without its code")


def block_of(page: Path, command: str) -> str:
    """The block of a page that has this command in it."""
    (found,) = [block.text for block in blocks(page) if block.kind == "sh" and command in block.text]
    return found


@pytest.fixture
def kim(stage: RunningStage) -> Iterator[None]:
    """The page's user is no more afterwards, however far a test came."""
    yield
    cognito = stage.client("cognito-idp")
    with contextlib.suppress(cognito.exceptions.UserNotFoundException):
        cognito.admin_delete_user(UserPoolId=stage.description.userPoolId, Username="kim")


@pytest.fixture
def processor(stage: RunningStage, assembly: Path, tmp_path: Path) -> Iterator[None]:
    """Of the processor its own code serves afterwards, as the one version, however far a test came."""
    yield
    lambda_, function = stage.client("lambda"), stage.description.functions.processor
    (code,) = assembly.glob("asset.*/")
    own = Path(shutil.make_archive(str(tmp_path / "own"), "zip", code)).read_bytes()
    serving = released(lambda_, function, own)
    for version in lambda_.list_versions_by_function(FunctionName=function)["Versions"]:
        if version["Version"] not in {"$LATEST", serving}:
            lambda_.delete_function(FunctionName=function, Qualifier=version["Version"])


def released(lambda_: Any, function: str, code: bytes) -> str:
    """Let a function's alias serve this code; return its version."""
    lambda_.update_function_code(FunctionName=function, ZipFile=code)
    lambda_.get_waiter("function_updated_v2").wait(FunctionName=function)
    version = str(lambda_.publish_version(FunctionName=function)["Version"])
    lambda_.update_alias(FunctionName=function, Name=LIVE_ALIAS, FunctionVersion=version)
    return version


@pytest.mark.usefixtures("kim")
def test_the_first_user_submits_a_job(stage: RunningStage, shell: Terminal) -> None:
    # when the page's commands are typed, with this stage's name for its own
    for command in ("admin-create-user", "initiate-auth"):
        commands = block_of(DEPLOYING, command).replace("shell.sh ann", f"shell.sh {stage.name}")
        answered = shell.type(commands.replace("stages/ann.json", f"stages/{stage.name}.json"))
    answer = json.loads(answered)

    # then a job was submitted, and comes to its end
    assert answer["status"] == "SUBMITTED"
    token = shell.type('echo "$TOKEN"').strip()
    with httpx.Client(timeout=30) as http:
        person = Person(stage.description.apiUrl, token, "", http)
        assert person.ended(answer["jobId"])["status"] == "COMPLETED"


@pytest.mark.usefixtures("processor")
def test_an_alias_goes_back_by_hand(
    stage: RunningStage, ann: Person, shell: Terminal, assembly: Path, tmp_path: Path
) -> None:
    # given a release of the processor that cannot even start
    lambda_, function = stage.client("lambda"), stage.description.functions.processor
    good = lambda_.get_alias(FunctionName=function, Name=LIVE_ALIAS)["FunctionVersion"]
    bad = released(lambda_, function, BROKEN.getvalue())
    assert fails(lambda_, function)

    # when the versions are looked at, then the one before is among them
    shell.type(f". docs/runbooks/shell.sh {stage.name}")
    serving, *versions = shell.type(block_of(RELEASING, "aws lambda get-alias")).splitlines()
    assert serving.split()[0] == bad
    assert {good, bad} <= {line.split()[0] for line in versions}

    # when the alias is pointed there, then jobs are done again
    shell.type(block_of(RELEASING, "aws lambda update-alias").replace("VERSION", good))
    assert not fails(lambda_, function)
    assert ann.ended(ann.accepted({}))["status"] == "COMPLETED"

    # given that the version before is gone, as after a release that went through
    lambda_.update_alias(FunctionName=function, Name=LIVE_ALIAS, FunctionVersion=bad)
    lambda_.delete_function(FunctionName=function, Qualifier=good)

    # when one is made of the good commit's code, synthesized already, and the alias is pointed at that
    synthesize, made = block_of(RELEASING, "aws lambda update-function-code").split("\n", 1)
    assert synthesize == "uvx nox -s synth -- prod"
    shell.type(f"cd {tmp_path}")
    said = shell.type(made.replace("build/cdk.out/prod", str(assembly)))
    shell.type(block_of(RELEASING, "aws lambda update-alias").replace("VERSION", said.split()[-1]))

    # then jobs are done again
    assert not fails(lambda_, function)
    assert ann.ended(ann.accepted({}))["status"] == "COMPLETED"


def fails(lambda_: Any, function: str) -> bool:
    """Whether a function fails at nothing at all."""
    return "FunctionError" in lambda_.invoke(FunctionName=live(function), Payload=b'{"Records": []}')


def test_a_release_in_a_hurry_shifts_no_traffic(tmp_path: Path) -> None:
    # given the stages' settings, in the folder of the good commit
    settings = Path("packages/infra/src/sluice_infra/stages.py")
    (tmp_path / settings).parent.mkdir(parents=True)
    before = (ROOT / settings).read_text()
    (tmp_path / settings).write_text(before)

    # when the page's command has changed them
    (command,) = [line for line in block_of(RELEASING, "git worktree add").splitlines() if line.startswith("sed ")]
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)

    # then that is the one thing that they say otherwise
    shift = "    traffic_shift: TrafficShift | None = "
    assert (tmp_path / settings).read_text() == before.replace(f'{shift}"Canary10Percent5Minutes"', f"{shift}None")
    assert (tmp_path / settings).read_text() != before
