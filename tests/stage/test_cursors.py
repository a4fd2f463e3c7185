"""A list's cursor, altered, forged or another's: a 400, or a page of the caller's own; never anyone else's."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from stage.answers import assert_problem
from stage.running import until

if TYPE_CHECKING:
    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("stage")

# One of each class of characters that base64 and its URL-safe form have or do not have.
REPLACEMENTS = "Aa0-_=+/ .~\u00e9"


@dataclass(frozen=True)
class List:
    """A user's list, and the cursor behind its first two jobs."""

    person: Person
    job_ids: set[str]
    page: dict[str, Any]

    @property
    def cursor(self) -> str:
        return str(self.page["nextCursor"])


def make_list(stage: RunningStage, username: str) -> List:
    person = stage.newcomer(username)
    job_ids = {person.accepted({"parameters": {"records": 1}}) for _ in range(5)}
    until(lambda: len(person.list().json()["jobs"]) == len(job_ids), "the jobs are listed")
    return List(person, job_ids, person.list(limit="2").json())


@pytest.fixture(scope="module")
def mine(stage: RunningStage) -> List:
    return make_list(stage, "cursor-owner")


@pytest.fixture(scope="module")
def other(stage: RunningStage) -> List:
    return make_list(stage, "cursor-stranger")


def encoded(document: object, **options: Any) -> str:
    return encoded_bytes(json.dumps(document, separators=(",", ":"), **options).encode())


def encoded_bytes(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def decoded(cursor: str) -> bytes | None:
    try:
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        return None


def sealed(owner: str, submitted_at: object, shown: object, status: str | None = None) -> str:
    """Forge a cursor as whoever has read the source can: its seal is no secret."""
    text = json.dumps([owner, status, submitted_at, shown])
    return encoded([submitted_at, shown, hashlib.sha256(text.encode()).hexdigest()[:16]])


def assert_refused(stage: RunningStage, mine: List, cursor: str, **query: str) -> None:
    assert_problem(mine.person.list(cursor=cursor, **query), 400, "invalid-cursor", stage)


def test_a_cursor_goes_on_where_its_page_ended(mine: List) -> None:
    # The control: what the others refuse is this, changed.
    pages, cursor = [mine.page], mine.cursor
    while cursor:
        pages.append(mine.person.list(limit="2", cursor=cursor).json())
        cursor = pages[-1].get("nextCursor", "")
    listed = [job["jobId"] for page in pages for job in page["jobs"]]
    assert (len(listed), set(listed)) == (5, mine.job_ids)


def test_it_may_be_used_again_and_with_another_limit(mine: List) -> None:
    once, again = (mine.person.list(limit="3", cursor=mine.cursor).json() for _ in range(2))
    assert once == again
    assert len(once["jobs"]) == 3


def test_our_forger_knows_the_seal(mine: List) -> None:
    # Given the content of a real cursor: then forging it gives that very cursor
    submitted_at, shown, _ = json.loads(decoded(mine.cursor) or b"")
    assert sealed(mine.person.sub, submitted_at, shown) == mine.cursor


def test_a_changed_character_is_a_400(stage: RunningStage, mine: List) -> None:
    # When one character after another becomes one of another class
    content, cursor = decoded(mine.cursor), mine.cursor
    for position, replacement in ((n, REPLACEMENTS[n % len(REPLACEMENTS)]) for n in range(len(cursor))):
        altered = cursor[:position] + replacement + cursor[position + 1 :]
        # Then it is refused, unless it reads as before
        if decoded(altered) != content:
            assert_refused(stage, mine, altered)


@pytest.mark.parametrize("replacement", REPLACEMENTS)
def test_each_class_of_characters_is_a_400(stage: RunningStage, mine: List, replacement: str) -> None:
    assert_refused(stage, mine, replacement + mine.cursor)
    assert_refused(stage, mine, mine.cursor[:10] + replacement + mine.cursor[10:])


def test_a_truncated_cursor_is_a_400(stage: RunningStage, mine: List) -> None:
    for length in range(0, len(mine.cursor), 5):
        assert_refused(stage, mine, mine.cursor[:length])
    assert_refused(stage, mine, mine.cursor * 2)


@pytest.mark.parametrize(
    "cursor",
    [
        encoded_bytes(b""),
        encoded_bytes(b"\xff\xfe\x00"),
        encoded_bytes(b"[" * 3000),
        encoded_bytes(b"[1e999, [], 0]"),
        encoded_bytes(b"[NaN, [], 0]"),
        encoded_bytes(b"9" * 4000),
        *(encoded(one) for one in (None, 0, "text", [], {}, [1, 2], [1, 2, 3, 4], {"a": 1, "b": 2, "c": 3})),
    ],
)
def test_other_base64_is_a_400(stage: RunningStage, mine: List, cursor: str) -> None:
    assert_refused(stage, mine, cursor)


@pytest.mark.parametrize("wrong", ["", "0" * 16, 0, None, []])
def test_a_wrong_seal_is_a_400(stage: RunningStage, mine: List, wrong: object) -> None:
    submitted_at, shown, _ = json.loads(decoded(mine.cursor) or b"")
    assert_refused(stage, mine, encoded([submitted_at, shown, wrong]))


@pytest.mark.parametrize("submitted_at", [-1, 10**15 + 1, 10**400, 1.5, "1", None, True, [], {}])
def test_a_forged_time_that_is_none_is_a_400(stage: RunningStage, mine: List, submitted_at: object) -> None:
    assert_refused(stage, mine, sealed(mine.person.sub, submitted_at, []))


@pytest.mark.parametrize("shown", [None, 0, "text", {}, {"a": 1}, [1], [None], [["a"]]])
def test_a_forged_list_that_is_none_is_a_400(stage: RunningStage, mine: List, shown: object) -> None:
    assert_refused(stage, mine, sealed(mine.person.sub, 0, shown))


def test_a_cursor_is_for_its_filter_only(stage: RunningStage, mine: List) -> None:
    assert_refused(stage, mine, mine.cursor, status="COMPLETED")


# Another owner's


def test_another_owners_cursor_is_a_400(stage: RunningStage, mine: List, other: List) -> None:
    assert_refused(stage, mine, other.cursor)
    assert_refused(stage, mine, other.cursor, owner=other.person.sub)


def test_another_owners_position_under_the_own_seal_lists_the_own_jobs(mine: List, other: List) -> None:
    # Given a well-sealed cursor that holds what another owner's holds
    submitted_at, shown, _ = json.loads(decoded(other.cursor) or b"")
    for time in (submitted_at, 10**15):
        # When it is used
        answer = mine.person.list(cursor=sealed(mine.person.sub, time, shown))

        # Then it moves about in the caller's own list, and that is all
        assert answer.status_code == 200
        assert {job["jobId"] for job in answer.json()["jobs"]} <= mine.job_ids


def test_another_owners_seal_on_the_own_position_is_a_400(stage: RunningStage, mine: List, other: List) -> None:
    submitted_at, shown, _ = json.loads(decoded(mine.cursor) or b"")
    assert_refused(stage, mine, sealed(other.person.sub, submitted_at, shown))


@pytest.mark.parametrize("owner", ["{0}#0", "{0}#1", "{0}#", "#{0}", "*", ""])
def test_keys_of_the_index_in_a_cursor_are_a_400(stage: RunningStage, mine: List, other: List, owner: str) -> None:
    assert_refused(stage, mine, sealed(owner.format(other.person.sub), 10**15, []))


def test_an_admins_cursor_is_for_the_owner_they_named(
    stage: RunningStage, ada: Person, mine: List, other: List
) -> None:
    # Given the admin's cursor in one owner's list
    cursor = ada.list(limit="2", owner=mine.person.sub).json()["nextCursor"]

    # Then it goes on in that list, and in no other
    answer = ada.list(owner=mine.person.sub, cursor=cursor)
    assert {job["jobId"] for job in answer.json()["jobs"]} < mine.job_ids
    for query in ({"owner": other.person.sub}, {}):
        assert_problem(ada.list(cursor=cursor, **query), 400, "invalid-cursor", stage)
