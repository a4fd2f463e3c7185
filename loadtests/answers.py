"""What comes back from the API, and what is wrong with it: each check returns a complaint, or None."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sluice_core import problems

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

    from sluice_core.problems import Problem

OK, ACCEPTED, NOT_FOUND = 200, 202, 404
_MOST_QUOTED = 200


class Complaint(Exception):  # noqa: N818 - named for what it is
    """An answer that is not what it has to be.

    Attributes
    ----------
    kind : str
        Under what it is counted: ``HTTP 503``, ``wrong rejection``.

    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


def kind_of(error: Exception) -> str:
    """Return under what a failed request is counted: its complaint's kind, or the exception's own name."""
    return error.kind if isinstance(error, Complaint) else type(error).__name__


@dataclass(frozen=True, slots=True)
class Answer:
    """A status (0 if nothing came back), headers and a body."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The body as a JSON object; empty if it is none."""
        try:
            found = json.loads(self.content)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def unexpected(answer: Answer, *statuses: int) -> Complaint | None:
    """Complain of any other status."""
    if answer.status in statuses:
        return None
    text = answer.content[:_MOST_QUOTED].decode(errors="replace")
    # S3's errors name the access key that signed, and more: its code says enough.
    code = re.search(r"<Code>\w+</Code>", text) if text.startswith("<") else None
    return Complaint(f"HTTP {answer.status}", code[0] if code else "" if text.startswith("<") else text)


def unanswered(error: Exception | None) -> Complaint:
    """Complain of a request that had no answer; by what happened, which Locust's client wraps."""
    reason = getattr(error, "original", None) or error or ConnectionError("no answer")
    return Complaint(kind_of(reason), str(reason))


def not_accepted(answer: Answer) -> Complaint | None:
    """Complain unless a submission was accepted."""
    if complaint := unexpected(answer, ACCEPTED):
        return complaint
    if not isinstance(answer.document.get("jobId"), str):
        return Complaint("wrong answer", "a 202 without the job's id")
    return None


def wrong_rejection(answer: Answer, problem: Problem) -> Complaint | None:
    """Complain of an answer that is not this very problem: its status, its media type and its ``type``."""
    wanted = (problem.status, problems.MEDIA_TYPE, f"urn:sluice:problem:{problem.name}")
    found = (answer.status, answer.headers.get("Content-Type"), answer.document.get("type"))
    return None if found == wanted else Complaint("wrong rejection", f"{found} and not {wanted}")


def wrong_page(answer: Answer, listed: Set[str]) -> Complaint | None:
    """Complain of a page that is none, is not newest first, or shows again what was listed before."""
    if complaint := unexpected(answer, OK):
        return complaint
    jobs = answer.document.get("jobs")
    if not isinstance(jobs, list):
        return Complaint("wrong list", "no list of jobs")
    times = [job["submittedAt"] for job in jobs]
    if times != sorted(times, reverse=True):
        return Complaint("wrong list", "not newest first")
    if listed & {job["jobId"] for job in jobs}:
        return Complaint("wrong list", "a job is on two pages")
    return None


def wrong_end(shown: Mapping[str, Any], status: str, code: str | None) -> Complaint | None:
    """Complain of a job that ended otherwise: with another status, or with another error's code."""
    found = shown.get("status"), shown.get("error", {}).get("code")
    return None if found == (status, code) else Complaint("wrong end", f"{found} and not {(status, code)}")


def wrong_result(answer: Answer, result: Mapping[str, Any]) -> Complaint | None:
    """Complain of a download that is not what the job's ``result`` promises."""
    if complaint := unexpected(answer, OK):
        return complaint
    found = len(answer.content), answer.headers.get("Content-Type")
    wanted = result["bytes"], result["contentType"]
    return None if found == wanted else Complaint("wrong result", f"{found} and not {wanted}")
