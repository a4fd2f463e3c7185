"""Every change of a job's row: the whole protocol, as a table of conditional writes.

========  =================================================  ============================================
change    holds only if                                      afterwards
========  =================================================  ============================================
record    there is no such job                               SUBMITTED (or its end, if it never can run)
claim     SUBMITTED or RUNNING, no lease holds, idle         RUNNING, my attempt, lease set, hold ended
renew     RUNNING, my attempt                                the lease ends later
complete  RUNNING, my attempt                                COMPLETED, result
fail      RUNNING, my attempt                                FAILED, error
release   RUNNING, my attempt                                SUBMITTED, to be claimed again
cancel    SUBMITTED or RUNNING                               CANCELLED
abort     SUBMITTED or RUNNING                               FAILED, error
expire    as claim, and not held                             FAILED, error
reopen    FAILED, at the very time I saw, idle               SUBMITTED, held, its failure in the history
========  =================================================  ============================================

The next five are of jobs with an external executor, of which each start has a token, and each execution a start.
A job is *executing* from begin to close, whatever else happens to it; else it is idle. An execution that is not
closed is a promise that somebody settles it, as a message is. So meanwhile nobody else takes the job.

=============  =================================================  =======================================
change         holds only if                                      afterwards
=============  =================================================  =======================================
begin          as claim, and the start before it is the one that  SUBMITTED, my start, executing
               I take the place of
note           my start                                           handle, and since when
claim_started  as claim, but executing, and my start              as claim
fail_started   as claim_started                                   FAILED, error
close          executing, my start                                idle
=============  =================================================  =======================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """One kind of conditional write; ``:name`` stands for a parameter."""

    sets: tuple[str, ...]
    conditions: tuple[str, ...]

    def statement(self, table: str) -> tuple[str, list[str]]:
        """Return the PartiQL text and the names of its parameters in order."""
        conditions = ('"jobKey" = :key', *self.conditions)
        text = f'UPDATE "{table}" {" ".join(self.sets)} WHERE {" AND ".join(conditions)}'
        return re.sub(r":\w+", "?", text), re.findall(r":(\w+)", text)


_OPEN = "\"status\" IN ['SUBMITTED', 'RUNNING']"
_FREE = '"leaseUntil" < :now'
_MINE = ("\"status\" = 'RUNNING'", '"attempt" = :attempt')
_MY_START = '"startToken" = :startToken'
# "Using the MISSING function with PartiQL for DynamoDB", Amazon DynamoDB Developer Guide.
_IDLE, _EXECUTING = '"executing" IS MISSING', '"executing" IS NOT MISSING'
_CLAIMED = (
    "SET \"status\" = 'RUNNING'",
    'SET "attempt" = :attempt',
    'SET "attempts" = "attempts" + 1',
    'SET "leaseUntil" = :leaseUntil',
    'SET "startedAt" = :now',
    'SET "heldUntil" = 0',
)
_FAILED = ("SET \"status\" = 'FAILED'", 'SET "endedAt" = :now', 'SET "error" = :error')
CHANGES: dict[str, Change] = {
    "claim": Change(
        (*_CLAIMED, "SET \"executor\" = 'lambda'", 'SET "handle" = :handle'),
        (_OPEN, _FREE, _IDLE),
    ),
    "renew": Change(('SET "leaseUntil" = :leaseUntil',), _MINE),
    "complete": Change(("SET \"status\" = 'COMPLETED'", 'SET "endedAt" = :now', 'SET "result" = :result'), _MINE),
    "fail": Change(_FAILED, _MINE),
    "release": Change(("SET \"status\" = 'SUBMITTED'", 'SET "leaseUntil" = 0'), _MINE),
    "cancel": Change(("SET \"status\" = 'CANCELLED'", 'SET "endedAt" = :now'), (_OPEN,)),
    "abort": Change(_FAILED, (_OPEN,)),
    "expire": Change(_FAILED, (_OPEN, _FREE, _IDLE, '"heldUntil" < :now')),
    "reopen": Change(
        (
            "SET \"status\" = 'SUBMITTED'",
            'SET "leaseUntil" = 0',
            'SET "heldUntil" = :heldUntil',
            'SET "history" = :history',
            'REMOVE "attempt"',
            'REMOVE "endedAt"',
            'REMOVE "error"',
            # Of no start any more: what still runs of the last one finds that it is nobody's.
            "SET \"startToken\" = ''",
            'SET "starts" = 0',
            'REMOVE "handle"',
            'REMOVE "notedAt"',
        ),
        ("\"status\" = 'FAILED'", '"endedAt" = :seen', _IDLE),
    ),
    "begin": Change(
        (
            "SET \"status\" = 'SUBMITTED'",
            'SET "startToken" = :startToken',
            'SET "starts" = "starts" + 1',
            'SET "executor" = :executor',
            'SET "executing" = :executor',
            'SET "executingSince" = :now',
            'SET "leaseUntil" = 0',
            'REMOVE "attempt"',
            'REMOVE "handle"',
            'REMOVE "notedAt"',
        ),
        (_OPEN, _FREE, _IDLE, '"startToken" = :after'),
    ),
    "note": Change(('SET "handle" = :handle', 'SET "notedAt" = :now'), (_MY_START,)),
    "claim_started": Change(_CLAIMED, (_OPEN, _FREE, _EXECUTING, _MY_START)),
    "fail_started": Change(_FAILED, (_OPEN, _FREE, _EXECUTING, _MY_START)),
    "close": Change(('REMOVE "executing"', 'REMOVE "executingSince"'), (_EXECUTING, _MY_START)),
}
