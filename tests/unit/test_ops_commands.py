"""The operator tools' commands: what they show, what they keep to themselves, and how they end."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from sluice_core.jobs import Conflict, JobStatus
from sluice_harness import description
from sluice_harness.ops.__main__ import main
from unit.lambda_events import ANN, BEN, job, row
from unit.operated import STAGE, now_ms

if TYPE_CHECKING:
    from pathlib import Path

    from unit.operated import Operated

    Capture = pytest.CaptureFixture[str]

COMMANDS = [[], ["dlq"], ["dlq", "list"], ["dlq", "show"], ["dlq", "redrive"], ["job"], ["job", "show"]]
COMMANDS += [["job", "fail"], ["audit"]]
SECRET = "hunter2"


# Help


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    is_leaf = command not in ([], ["dlq"], ["job"])
    assert (f"example:\n  uv run sluice-ops {' '.join(command)}" in shown) == is_leaf
    assert ("--stage NAME" in shown) == is_leaf
    assert max(map(len, shown.splitlines())) <= 100


def test_it_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sluice_harness.ops", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert "audit" in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        ["dlq", "redrive"],
        ["dlq", "redrive", "--all", "--job", "x"],
        ["dlq", "redrive", "--all", "--rate", "0"],
        ["dlq", "redrive", "--all", "--rate", "501"],
        ["dlq", "list", "--queue", "other"],
        ["job", "fail", "x", "--owner", ANN],
        ["job", "fail", "x", "--owner", ANN, "--message", " "],
        ["job", "fail", "x", "--owner", ANN, "--message", "m", "--code", "not ok"],
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_ends_with_2(command: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


# Which stage


def test_the_only_stage_needs_no_name(operated: Operated, capsys: Capture) -> None:
    assert operated.table
    assert main(["dlq", "list"]) == 0
    assert "request" in capsys.readouterr().out


def test_without_a_stage_it_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(description, "_STAGES", tmp_path)
    assert main(["dlq", "list"]) == 2
    assert "uvx nox -s local" in capsys.readouterr().err


def test_among_several_stages_local_is_meant_or_one_must_be_named(operated: Operated, capsys: Capture) -> None:
    operated.description.save("another")
    assert main(["dlq", "list"]) == 2
    assert "--stage another or --stage operated" in capsys.readouterr().err
    operated.description.save("local")
    assert main(["dlq", "list"]) == 0


def test_a_wrong_name_says_which_there_are(operated: Operated, capsys: Capture) -> None:
    assert operated.table
    assert main(["audit", "--stage", "prod"]) == 2
    assert f"there are: {STAGE}" in capsys.readouterr().err


def test_a_description_of_another_version_is_said_to_be_one(operated: Operated, capsys: Capture) -> None:
    path = description.description_path(STAGE)
    path.write_text(json.dumps({**json.loads(path.read_text()), "queues": {}}))
    assert operated.run("audit") == 2
    assert "not of this version" in capsys.readouterr().err


def test_a_stage_that_is_down_is_said_to_be(operated: Operated, capsys: Capture) -> None:
    path = description.description_path(STAGE)
    path.write_text(json.dumps({**json.loads(path.read_text()), "endpointUrl": "http://127.0.0.1:9"}))
    assert operated.run("job", "show", "x", "--owner", ANN) == 1
    assert "Is the stage up?" in capsys.readouterr().err


# dlq list, dlq show


def test_dead_letters_are_listed_with_their_jobs_and_without_payloads(operated: Operated, capsys: Capture) -> None:
    # given dead letters of a failed job, of an unrecorded request, and a malformed one
    failed, request = operated.failed("failed", secret=SECRET), job("request", at=now_ms(), secret=SECRET)
    operated.work_letter(failed)
    operated.request_letter(request)
    operated.malformed_letter(json.dumps({"password": SECRET}))

    # when they are listed
    assert operated.run("dlq", "list") == 0

    # then each has a line, and nothing of a payload shows
    shown = capsys.readouterr().out
    lines = {line.split()[0]: line for line in shown.splitlines() if len(line) > 60}
    assert all(part in shown for part in (failed.key.job_id, failed.key.owner, "ATTEMPTS_EXHAUSTED", "FAILED"))
    assert "no row" in lines["request"]
    assert "malformed: not a work message" in shown
    assert SECRET not in shown
    assert operated.queues.work_dlq.depth() == (2, 0)


def test_the_list_is_there_for_machines_too(operated: Operated, capsys: Capture) -> None:
    failed = operated.failed("failed", secret=SECRET)
    operated.work_letter(failed)
    assert operated.run("dlq", "list", "--queue", "work", "--json") == 0
    shown = capsys.readouterr().out
    document = json.loads(shown)
    [queue], [letter] = document["queues"], document["letters"]
    assert (queue["name"], queue["depth"], queue["unseen"]) == ("work", 1, 0)
    assert (letter["jobId"], letter["owner"]) == (failed.key.job_id, failed.key.owner)
    assert letter["job"]["error"]["code"] == "ATTEMPTS_EXHAUSTED"
    assert letter["job"]["attempts"] == 1
    assert SECRET not in shown


def test_hidden_dead_letters_are_counted_and_said_to_be_hidden(
    operated: Operated, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("sluice_harness.ops.letters._PATIENCE_S", 0.1)
    operated.work_letter(operated.failed("failed"))
    operated.queues.work_dlq.receive()
    assert operated.run("dlq", "list") == 0
    assert "1 of the work queue's are hidden" in capsys.readouterr().out


def test_a_dead_letter_is_found_by_its_job_and_by_its_own_id(operated: Operated, capsys: Capture) -> None:
    # given a dead letter
    failed = operated.failed("failed", secret=SECRET)
    operated.work_letter(failed)
    assert operated.run("dlq", "list", "--json") == 0
    message_id = json.loads(capsys.readouterr().out)["letters"][0]["messageId"]

    # then both ids show it, its job and no payload
    for wanted in (failed.key.job_id, message_id):
        assert operated.run("dlq", "show", wanted) == 0
        shown = capsys.readouterr().out
        assert message_id in shown
        assert "ATTEMPTS_EXHAUSTED: The work failed too often." in shown
        assert SECRET not in shown

    # and the payload shows when it is asked for
    assert operated.run("dlq", "show", message_id, "--payload") == 0
    assert SECRET in capsys.readouterr().out
    assert operated.run("dlq", "show", message_id, "--payload", "--json") == 0
    [document] = json.loads(capsys.readouterr().out)
    assert SECRET in document["payload"]


def test_a_payload_cannot_steer_the_terminal(operated: Operated, capsys: Capture) -> None:
    operated.malformed_letter("\t[red]not markup[/] \N{RIGHT-TO-LEFT OVERRIDE}")
    assert operated.run("dlq", "list", "--json") == 0
    message_id = json.loads(capsys.readouterr().out)["letters"][0]["messageId"]
    assert operated.run("dlq", "show", message_id, "--payload") == 0
    shown = capsys.readouterr().out
    assert "[red]not markup[/]" in shown
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in shown


def test_an_unknown_id_says_where_to_look(operated: Operated, capsys: Capture) -> None:
    assert operated.run("dlq", "show", "no-such-thing") == 1
    assert "sluice-ops dlq list" in capsys.readouterr().err


# job show, job fail


def test_a_job_is_shown_with_all_that_an_operator_needs(operated: Operated, capsys: Capture) -> None:
    # given a job that was brought back once, has a conflict and is running
    running = operated.failed("running")
    seen = row(operated.ledger, running)
    operated.ledger.reopen(seen, now_ms(), now_ms() + 60_000)
    operated.ledger.note_conflict(running.key, Conflict(now_ms(), "request-9"))

    # when it is shown
    assert operated.run("job", "show", running.key.job_id, "--owner", running.key.owner) == 0

    # then all of that shows
    shown = capsys.readouterr().out
    for part in ("SUBMITTED", "held until", "from ATTEMPTS_EXHAUSTED", "request-9", "attempts", "row expires"):
        assert part in shown


def test_a_completed_job_names_its_object(operated: Operated, capsys: Capture) -> None:
    done, stored = operated.completed("done")
    assert operated.run("job", "show", done.key.job_id, "--owner", done.key.owner) == 0
    assert f"{stored.object_key} (text/plain, 3 bytes)" in capsys.readouterr().out
    assert operated.run("job", "show", done.key.job_id, "--owner", done.key.owner, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["job"]["result"] == {"key": stored.object_key, "contentType": "text/plain", "bytes": 3}


def test_a_dead_letter_tells_whose_job_it_is(operated: Operated, capsys: Capture) -> None:
    failed = operated.failed("failed")
    operated.work_letter(failed)
    assert operated.run("job", "show", failed.key.job_id) == 0
    shown = capsys.readouterr().out
    assert failed.key.owner in shown
    assert "meant for the work queue" in shown


def test_otherwise_the_owner_must_be_named(operated: Operated, capsys: Capture) -> None:
    done, _ = operated.completed("done")
    assert operated.run("job", "show", done.key.job_id) == 2
    said = capsys.readouterr().err
    assert "--owner SUB" in said
    assert f"\n  aws cognito-idp admin-get-user --user-pool-id {operated.description.userPoolId} " in said
    for one in (operated.failed("same"), operated.failed("same", owner=BEN)):
        operated.work_letter(one)
    assert operated.run("job", "show", job("same").key.job_id) == 2
    assert BEN in capsys.readouterr().err


def test_another_owners_job_is_none(operated: Operated, capsys: Capture) -> None:
    done, _ = operated.completed("done")
    for command in (["show"], ["fail", "--message", "m", "--yes"]):
        assert operated.run("job", *command, done.key.job_id, "--owner", BEN) == 1
        assert "no job" in capsys.readouterr().err


def test_failing_a_job_is_a_dry_run_unless_told_otherwise(operated: Operated, capsys: Capture) -> None:
    # given an open job, and what an attempt that died has stored
    running = operated.running("running", lease_ms=0)
    operated.stored(running)
    command = ["job", "fail", running.key.job_id, "--owner", ANN, "--message", "Lost; try again."]

    # when it is failed without --yes, then nothing happens
    assert operated.run(*command) == 0
    assert f"--message 'Lost; try again.' --stage {STAGE} --yes" in capsys.readouterr().out
    assert row(operated.ledger, running).status is JobStatus.RUNNING

    # and with it, it ends as it was said, and nothing of it is left
    assert operated.run(*command, "--code", "OUTAGE", "--yes") == 0
    failed = row(operated.ledger, running)
    assert failed.status is JobStatus.FAILED
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == ("OUTAGE", "Lost; try again.")
    assert operated.bucket.keys() == []


def test_a_job_that_has_ended_is_not_failed(operated: Operated, capsys: Capture) -> None:
    done, _ = operated.completed("done")
    assert operated.run("job", "fail", done.key.job_id, "--owner", ANN, "--message", "m", "--yes") == 1
    assert "it is COMPLETED" in capsys.readouterr().err
    assert row(operated.ledger, done).status is JobStatus.COMPLETED
    assert len(operated.bucket.keys()) == 1
