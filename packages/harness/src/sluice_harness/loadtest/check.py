"""One check of a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sluice_core.jobs import JobKey

MOST_JOBS = 20
_MOST_SAID = 3


@dataclass(frozen=True, slots=True)
class Check:
    """Something that had to hold.

    Attributes
    ----------
    expected, measured : str
        For people, with units where the name has none.
    jobs : tuple of str
        The ids of jobs for which it did not hold, `MOST_JOBS` at most.

    """

    group: str
    name: str
    held: bool
    expected: str
    measured: str
    detail: str = ""
    jobs: tuple[str, ...] = ()


def about_jobs(name: str, expected: str, offenders: Mapping[JobKey, str]) -> Check:
    """Return the check that there is no such job; `offenders` says of each what is wrong."""
    return Check(
        "jobs",
        name,
        held=not offenders,
        expected=expected,
        measured=f"{len(offenders):,} not so" if offenders else expected,
        detail=named(offenders),
        jobs=ids(offenders),
    )


def named(offenders: Mapping[JobKey, str]) -> str:
    """Return the first of some jobs with what is said of each, and how many more there are."""
    shown = [f"{key.job_id} of {key.owner}: {what}" for key, what in offenders.items()]
    more = f"; and {len(shown) - _MOST_SAID} more" if len(shown) > _MOST_SAID else ""
    return "; ".join(shown[:_MOST_SAID]) + more


def ids(keys: Collection[JobKey]) -> tuple[str, ...]:
    """Return the ids of some jobs, not too many."""
    return tuple(key.job_id for key in list(keys)[:MOST_JOBS])
