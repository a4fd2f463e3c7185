"""Cursors: good for one list, opaque, and authorising nothing whatever they hold."""

from __future__ import annotations

import base64
import json
import sys
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice_core.jobs import JobStatus
from sluice_core.listing import InvalidCursor, Position
from unit import lambda_events
from unit.lambda_events import ANN, BEN, job

if TYPE_CHECKING:
    from types import ModuleType

    from sluice_core.ledger import JobLedger

NOW = 1_790_000_000_000
POSITION = Position(NOW, frozenset({"job-1", "job-2"}))
CURSOR = POSITION.cursor(ANN, None)
job_ids = st.text("abcXYZ019-", min_size=16, max_size=64)
positions = st.builds(Position, st.integers(0, 10**15), st.frozensets(job_ids, max_size=5))
some = settings(max_examples=60, deadline=None)
filters = st.none() | st.sampled_from(JobStatus)


def encoded(document: Any) -> str:
    text = document if isinstance(document, str) else json.dumps(document)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decoded(cursor: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))


@some
@given(position=positions, status=filters)
def test_a_cursor_leads_back_to_its_position(position: Position, status: JobStatus | None) -> None:
    cursor = position.cursor(ANN, status)

    assert Position.from_cursor(cursor, ANN, status) == position
    assert set(cursor) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@some
@given(position=positions, made_for=filters, used_for=filters)
def test_a_cursor_is_good_for_its_own_list_only(
    position: Position, made_for: JobStatus | None, used_for: JobStatus | None
) -> None:
    cursor = position.cursor(ANN, made_for)

    with pytest.raises(InvalidCursor):
        Position.from_cursor(cursor, BEN, made_for)
    if made_for is not used_for:
        with pytest.raises(InvalidCursor):
            Position.from_cursor(cursor, ANN, used_for)


def test_a_cursor_holds_no_owner_and_no_key() -> None:
    assert ANN not in json.dumps(decoded(CURSOR))
    assert "#" not in json.dumps(decoded(CURSOR))


@pytest.mark.parametrize("at", range(len(CURSOR)))
def test_no_character_can_be_changed(at: int) -> None:
    for other in {"A", "B", "-", "_", "=", "+", "/", " ", "é", "\x00", "%"} - {CURSOR[at]}:
        with pytest.raises(InvalidCursor):
            Position.from_cursor(CURSOR[:at] + other + CURSOR[at + 1 :], ANN, None)


@pytest.mark.parametrize("length", range(len(CURSOR)))
def test_no_part_of_it_is_one(length: int) -> None:
    with pytest.raises(InvalidCursor):
        Position.from_cursor(CURSOR[:length], ANN, None)


@some
@given(text=st.text())
def test_no_text_at_all_makes_it_stumble(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Position.from_cursor(text, ANN, None)


@some
@given(
    document=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    )
)
def test_no_document_at_all_makes_it_stumble(document: Any) -> None:
    for forged in (document, [document, document, document], [NOW, [document], document], [document, [], ""]):
        with pytest.raises(InvalidCursor):
            Position.from_cursor(encoded(forged), ANN, None)


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "[1,[],",
        '{"a":1,"b":2,"c":3}',
        f'[{"9" * 5000},[],""]',
        "[NaN,[],1]",
        "[1,[],Infinity]",
        "[1,[],2,3]",
        "[" * 100_000,
        '["\\ud800",[],"\\ud800"]',
    ],
)
def test_forged_documents_are_refused(forged: str) -> None:
    with pytest.raises(InvalidCursor):
        Position.from_cursor(encoded(forged), ANN, None)


def test_nesting_of_whatever_depth_is_refused() -> None:
    # Around the interpreter's own limit: what can be read may yet be too deep to be written
    limit = sys.getrecursionlimit()
    for depth in range(limit - 300, limit + 20):
        with pytest.raises(InvalidCursor):
            Position.from_cursor(encoded(f'[1,{"[" * depth}{"]" * depth},""]'), ANN, None)


@pytest.mark.parametrize(
    "position",
    [
        Position(-1),
        Position(10**15 + 1),
        Position(cast("Any", 1.5)),
        Position(cast("Any", "1790000000000")),
        Position(cast("Any", None)),
        Position(cast("Any", True)),
        Position(NOW, frozenset(f"more-than-a-millisecond-holds-{n}" for n in range(101))),
        Position(NOW, frozenset({"no id of a job"})),
        Position(NOW, frozenset({cast("Any", 7)})),
        Position(NOW, cast("Any", frozenset({None}))),
    ],
)
def test_a_sealed_forgery_is_checked_all_the_same(position: Position) -> None:
    # Whoever can read this project can seal what they like
    with pytest.raises(InvalidCursor):
        Position.from_cursor(position.cursor(ANN, None), ANN, None)


# --- at the API


def ask(job_status: ModuleType, cursor: str, **request: Any) -> tuple[int, Any]:
    query = {"limit": "2", "cursor": cursor, **request.pop("query", {})}
    return lambda_events.ask(job_status, None, query=query, **request)[:2]


def test_a_cursor_of_another_list_is_a_problem_and_never_another_s_data(
    job_status: ModuleType, ledger: JobLedger
) -> None:
    # Given Ann's cursor
    for owner in (ANN, BEN):
        ledger.record([job(f"job-{n}", owner=owner, at=NOW + n) for n in range(5)])
    anns = lambda_events.ask(job_status, None, query={"limit": "2"})[1]["nextCursor"]
    assert ask(job_status, anns)[0] == 200

    # When Ben uses it, or it is used with another filter, or cut short
    answers = [
        ask(job_status, anns, owner=BEN),
        ask(job_status, anns, owner=BEN, query={"owner": ANN}),
        ask(job_status, anns, query={"status": "SUBMITTED"}),
        ask(job_status, anns[:-2]),
        ask(job_status, ""),
    ]

    # Then it is none
    for status, problem in answers:
        assert (status, problem["type"]) == (400, "urn:sluice:problem:invalid-cursor")
        assert "jobs" not in problem
    # but an admin who looks at Ann's list may go on with it
    assert ask(job_status, anns, owner=BEN, groups=("apiAdmins",), query={"owner": ANN})[0] == 200


def test_a_sealed_forgery_moves_about_in_one_s_own_list(job_status: ModuleType, ledger: JobLedger) -> None:
    ledger.record([job(f"job-{n}", owner=owner, at=NOW + n) for n in range(5) for owner in (ANN, BEN)])
    forged = Position(NOW + 2, frozenset({"x" * 64} | {f"{BEN}-{n}" for n in range(40)})).cursor(ANN, None)

    status, page = ask(job_status, forged)

    assert status == 200
    assert [one["jobId"] for one in page["jobs"]] == ["job-2-----------", "job-1-----------"]
