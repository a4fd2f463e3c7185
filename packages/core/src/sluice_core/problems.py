"""Every error a client can meet, as RFC 9457 problem details with a stable ``type``.

The gateway's own errors and the functions' are made from this one table. A detail says what to do next and
never carries an ARN, a stack trace or anything of another owner's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of error: ``type`` is ``urn:sluice:problem:<name>``."""

    name: str
    status: int
    title: str
    detail: str

    def body(self, **members: str) -> str:
        """Return the JSON document; extra members, such as ``requestId``, are added as they are."""
        document = {
            "type": f"urn:sluice:problem:{self.name}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **members,
        }
        return json.dumps(document)


BAD_REQUEST = Problem("bad-request", 400, "Bad request", "The request could not be understood.")
INVALID_BODY = Problem(
    "invalid-body",
    400,
    "The body is not a valid submission",
    "Send a JSON object with only jobType, parameters and clientToken, each as the API's schema describes.",
)
UNAUTHORIZED = Problem("unauthorized", 401, "Not signed in", "Send a current token in the Authorization header.")
INVALID_QUERY = Problem(
    "invalid-query",
    400,
    "The query is not valid",
    "status is one of SUBMITTED, RUNNING, COMPLETED, FAILED, CANCELLED; limit is a whole number of at least 1.",
)
INVALID_CURSOR = Problem(
    "invalid-cursor",
    400,
    "The cursor is not one of this list",
    "Use nextCursor as it was given, with the same status and owner, or begin again without a cursor.",
)
FORBIDDEN = Problem(
    "forbidden", 403, "Not allowed", "The token does not carry the scope sluice/jobs, or was refused."
)
NOT_FOUND = Problem("not-found", 404, "Not found", "There is no such resource for this caller.")
ALREADY_ENDED = Problem(
    "already-ended", 409, "The job has ended", "Nothing is left to cancel; its status resource says how it ended."
)
TOO_LARGE = Problem("too-large", 413, "The body is too large", "A submission may have 1 MiB at most.")
UNSUPPORTED_MEDIA_TYPE = Problem(
    "unsupported-media-type", 415, "Unsupported media type", "Send the body as application/json."
)
TOO_MANY_REQUESTS = Problem(
    "too-many-requests", 429, "Too many requests", "Wait for the time in Retry-After, then try again."
)
INTERNAL = Problem(
    "internal-error",
    500,
    "Internal error",
    "Something failed on our side; try again.",
)
UNAVAILABLE = Problem(
    "unavailable", 503, "Unavailable", "The job was not accepted; try again with the same clientToken."
)
CANCEL_UNAVAILABLE = Problem(
    "cancel-unavailable", 503, "Unavailable", "It is not known whether the job was cancelled; try again."
)
TIMEOUT = Problem(
    "timeout",
    504,
    "Timed out",
    "It is not known whether the request was carried out; try again, a submission with the same clientToken.",
)
