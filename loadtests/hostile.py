"""One who sends what has to be refused: a success is the right refusal, and nothing else."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from answers import wrong_rejection
from sluice_core import problems
from users import JobUser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pacing import Arrival
    from sluice_core.problems import Problem

_JSON = {"Content-Type": "application/json"}
# Of the form that lets it through to the authorizer, and no token.
_FORGED = {"Authorization": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.AAAA"}
_HUGE = b'{"parameters":{"note":"' + b"x" * 1_048_576 + b'"}}'
_UNKNOWN = "no-such-job-0123456789"


@dataclass(frozen=True, slots=True)
class Case:
    """A request and the problem that has to be its answer.

    Attributes
    ----------
    headers : mapping
        Beside, or instead of, the caller's own token.
    is_signed_in : bool
        Whether the caller's own token goes with it.

    """

    name: str
    method: str
    path: str
    problem: Problem
    headers: Mapping[str, str]
    body: bytes | None = None
    is_signed_in: bool = True


def _submission(name: str, body: bytes, problem: Problem = problems.INVALID_BODY) -> Case:
    return Case(name, "POST", "/submit-job", problem, _JSON, body)


def _read(name: str, path: str, problem: Problem) -> Case:
    return Case(name, "GET", f"/job-status{path}", problem, {})


CASES = (
    Case("no token", "POST", "/submit-job", problems.UNAUTHORIZED, _JSON, b"{}", is_signed_in=False),
    Case("bad token", "GET", "/job-status", problems.UNAUTHORIZED, {"Authorization": "no"}, is_signed_in=False),
    Case("forged token", "GET", "/job-status", problems.UNAUTHORIZED, _FORGED, is_signed_in=False),
    _submission("malformed JSON", b'{"jobType": "weather-report"'),
    _submission("no object", b"[]"),
    _submission("wrong types", json.dumps({"parameters": {"records": "24"}}).encode()),
    _submission("unknown property", json.dumps({"owner": "somebody-else"}).encode()),
    _submission("unknown job type", json.dumps({"jobType": "tea"}).encode()),
    _submission("bad clientToken", json.dumps({"clientToken": "../../etc/passwd-"}).encode()),
    _submission("huge body", _HUGE, problems.TOO_LARGE),
    Case(
        *("wrong content type", "POST", "/submit-job", problems.UNSUPPORTED_MEDIA_TYPE),
        {"Content-Type": "text/plain"},
        b"{}",
    ),
    _read("unknown id", f"/{_UNKNOWN}", problems.NOT_FOUND),
    _read("another owner's id", "/{another's}", problems.NOT_FOUND),
    _read("bad cursor", "?cursor=bm90IGEgY3Vyc29y", problems.INVALID_CURSOR),
    _read("bad limit", "?limit=0", problems.INVALID_QUERY),
    Case("cancellation of an unknown id", "POST", f"/cancel-job/{_UNKNOWN}", problems.NOT_FOUND, {}),
    Case("cancellation after the end", "POST", "/cancel-job/{own ended}", problems.ALREADY_ENDED, {}),
)


class Hostile(JobUser):
    """Sends each of the cases in turn."""

    abstract = False
    kind = "hostile"

    def act(self, arrival: Arrival, intended_at: float) -> None:  # noqa: ARG002 - nobody waits for it
        """Send the one whose turn it is."""
        case = CASES[arrival.ordinal % len(CASES)]
        owner, path = self.owner_of(arrival), case.path
        if "{another's}" in path:
            others = [job_id for other, job_id in self.process.visible if other is not owner]
            path = path.replace("{another's}", others[-1] if others else _UNKNOWN)
        if "{own ended}" in path:
            if not self.process.ended:
                return
            owner, job_id = self.process.ended[-1]
            path = path.replace("{own ended}", job_id)
        token = {"Authorization": self.process.tokens.token(owner)} if case.is_signed_in else {}
        name = f"refused: {case.name}"
        _, complaint = self.call(
            case.method,
            path,
            name,
            functools.partial(wrong_rejection, problem=case.problem),
            headers={**case.headers, **token},
            body=case.body,
        )
        if complaint is None:
            self.process.recorder.rejected(case.name)
