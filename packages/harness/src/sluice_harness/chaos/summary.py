"""What a chaos run has to tell: its counts, and what was wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from rich.table import Table
from sluice_core.jobs import JobStatus

from sluice_harness.chaos.worker_faults import CALL_FAULTS, KILLS, POISON_FAULTS
from sluice_harness.description import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console
    from sluice_core.jobs import Job

    from sluice_harness.chaos.drive import Drive
    from sluice_harness.chaos.faults import Faults
    from sluice_harness.chaos.verdict import Offence

Key = TypeVar("Key", int, str)

_SHOWN = 50


def summarize(
    driven: Drive,
    faults: Faults,
    jobs: Mapping[tuple[str, str], Job],
    offences: Sequence[Offence],
) -> dict[str, Any]:
    """Return a run's counts, for the summary file and the screen."""
    traces = driven.traffic.traces
    return {
        "seed": faults.settings.seed,
        "jobs": len(traces),
        "accepted": driven.traffic.accepted,
        "states": {str(status): sum(job.status is status for job in jobs.values()) for status in JobStatus},
        "roles": _tally(str(trace.job.role) for trace in traces),
        "cancelAnswers": _tally(trace.cancel_answer for trace in traces if trace.cancel_answer is not None),
        "faults": faults.counts(CALL_FAULTS),
        "kills": faults.counts(KILLS),
        "poison": faults.counts(POISON_FAULTS),
        "retries": {
            "attempts": sum(max(0, job.attempts - 1) for job in jobs.values()),
            "client": dict(driven.traffic.retries),
        },
        "attempts": _tally(job.attempts for job in jobs.values()),
        "drainedAfterSeconds": driven.drained_after_s and round(driven.drained_after_s, 1),
        "settledSeconds": round(driven.settled_s, 1),
        "offences": [asdict(offence) for offence in offences],
    }


def _tally(values: Iterable[Key]) -> dict[Key, int]:
    counted = Counter(values)
    return {value: counted[value] for value in sorted(counted)}


def show(console: Console, summary: Mapping[str, Any], folder: Path) -> None:
    """Print the counts, what is wrong and one line to end with."""
    table = Table(title=f"Chaos, seed {summary['seed']}", show_header=False)
    rows = {
        "jobs by role": summary["roles"],
        "jobs by end state": summary["states"],
        "AWS calls that failed": summary["faults"],
        "workers killed by the seed": summary["kills"],
        "poison jobs' runs": summary["poison"],
        "answers to cancellations": summary["cancelAnswers"],
        "clients' retries": summary["retries"]["client"],
        "jobs by attempts": summary["attempts"],
    }
    for name, counts in rows.items():
        table.add_row(name, ", ".join(f"{key} {count:,}" for key, count in counts.items()) or "none")
    table.add_row("attempts beyond the first", f"{summary['retries']['attempts']:,}")
    console.print(table)
    offences = summary["offences"]
    for offence in offences[:_SHOWN]:
        console.print(f"{offence['job']}: {offence['what']}", style="red", markup=False, soft_wrap=True)
    if len(offences) > _SHOWN:
        console.print(f"and {len(offences) - _SHOWN} more")
    drained = summary["drainedAfterSeconds"]
    console.print(
        f"{summary['accepted']:,} jobs accepted, "
        + (f"drained after {drained:.0f} s" if drained else "not drained in time")
        + f", audited {summary['settledSeconds']:.0f} s later"
        + f", {summary['seconds']:.0f} s in all; "
        + (f"{len(offences)} breaches" if offences else "nothing lost, nothing twice")
        + f"; see {(folder / 'summary.json').relative_to(ROOT)}",
        soft_wrap=True,
    )
