"""How far a deployment is, and what it would change, in as few words as say it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from sluice_harness.deploy.terminal import Refused, demand_an_answer, show_changes, shown

EVENT = (
    "sluice-me-ingestion |  57/110 | 02:03:04 AM | CREATE_COMPLETE | AWS::SQS::Queue | Work/Queue (WorkQueue29F4)"
)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (EVENT, ["sluice-me-ingestion 57/110 Work/Queue"]),
        ("Bundling [asset]", [r"Bundling \[asset]"]),
        ("", []),
    ],
)
def test_an_event_is_told_by_stack_count_and_subject(line: str, said: list[str]) -> None:
    told: list[str] = []
    shown(told.append)(line)
    assert told == said


def test_where_nobody_can_be_asked_that_is_said_first(monkeypatch: pytest.MonkeyPatch) -> None:
    # given no terminal
    monkeypatch.setattr("sys.stdin", io.StringIO())

    # then an answer is wanted beforehand
    with pytest.raises(Refused, match="with --yes"):
        demand_an_answer(yes=False)
    demand_an_answer(yes=True)


@pytest.mark.parametrize(
    ("diff", "lines"),
    [
        ("[+] AWS::SQS::Queue Work/Queue W1", ["    1 AWS::SQS::Queue", "1 new, 0 changed, 0 removed"]),
        (
            "[~] AWS::SQS::Queue Work/Queue W1\n └─ [~] DelaySeconds",
            ["[~] AWS::SQS::Queue Work/Queue W1", " └─ [~] DelaySeconds", "0 new, 1 changed, 0 removed"],
        ),
    ],
)
def test_what_is_all_new_is_counted_and_what_changes_is_shown(diff: str, lines: list[str]) -> None:
    console = Console(file=io.StringIO(), width=40)
    show_changes(diff, console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == lines
