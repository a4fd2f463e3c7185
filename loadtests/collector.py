"""Puts together what the load generator's processes have seen, and writes it: the master does, or the only one."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from records import Seen

_SUMS = ("submitted", "followed", "ended", "errors", "users")


class Collector:
    """All that was seen in a run.

    Parameters
    ----------
    asked : int
        How many submissions have to be accepted.

    """

    def __init__(self, asked: int) -> None:
        self.asked = asked
        self._jobs: dict[tuple[str, str], dict[str, Any]] = {}
        self._times: defaultdict[Seen, list[float]] = defaultdict(list)
        self._errors: defaultdict[Seen, Counter[str]] = defaultdict(Counter)
        self._refused: Counter[str] = Counter()
        self._rejections: Counter[str] = Counter()
        self._standings: dict[str, dict[str, Any]] = {}

    def merge(self, node: str, seen: dict[str, Any]) -> None:
        """Add what a process has handed over; of a job, the latest counts."""
        for record in seen["jobs"]:
            self._jobs[record["owner"], record["jobId"]] = record
        for second, name, times, errors in seen["requests"]:
            self._times[second, name] += times
            self._errors[second, name].update(errors)
        self._refused.update(seen["refused"])
        self._rejections.update(seen["rejections"])
        self._standings[node] = seen["standing"]

    @property
    def submitted(self) -> int:
        """How many submissions were accepted."""
        return len(self._jobs)

    def is_done(self, nodes: Iterable[str]) -> bool:
        """Whether each of these processes has done all that it had to do."""
        return all(self._standings.get(node, {}).get("isDone", False) for node in nodes)

    def progress(self) -> dict[str, Any]:
        """Return what ``progress.json`` says: sums over the processes; ``users`` are those at work just now."""
        standings = list(self._standings.values())
        sums = {name: sum(standing.get(name, 0) for standing in standings) for name in _SUMS}
        phases = {standing["phase"] for standing in standings}
        return {**sums, "asked": self.asked, "phase": "baseline" if phases == {"baseline"} else "load"}

    def write_progress(self, out: Path) -> None:
        """Write ``progress.json``."""
        write(out / "progress.json", json.dumps(self.progress()) + "\n")

    def write_all(self, out: Path, run: dict[str, Any]) -> None:
        """Write ``jobs.jsonl``, ``requests.jsonl`` and ``progress.json``, and at last ``run.json``."""
        write(out / "jobs.jsonl", _lines(self._jobs.values()))
        write(out / "requests.jsonl", _lines(map(self._second, sorted(self._times))))
        self.write_progress(out)
        seen = {
            "submitted": self.submitted,
            "asked": self.asked,
            "refused": dict(self._refused),
            "rejections": dict(self._rejections),
            "requests": self._by_name(),
        }
        write(out / "run.json", json.dumps({**run, **seen}, indent=2) + "\n")

    def _second(self, seen: Seen) -> dict[str, Any]:
        times = sorted(self._times[seen])
        figures = {"p50Ms": percentile(times, 50), "p95Ms": percentile(times, 95), "maxMs": times[-1]}
        return {
            "at": seen[0],
            "name": seen[1],
            "count": len(times),
            **figures,
            "errors": dict(self._errors[seen]),
        }

    def _by_name(self) -> dict[str, dict[str, Any]]:
        times: defaultdict[str, list[float]] = defaultdict(list)
        failures: Counter[str] = Counter()
        for (second, name), some in self._times.items():
            times[name] += some
            failures[name] += self._errors[second, name].total()
        return {name: _figures(sorted(times[name]), failures[name]) for name in sorted(times)}


def _figures(times: Sequence[float], failures: int) -> dict[str, Any]:
    percentiles = {f"p{percent}Ms": percentile(times, percent) for percent in (50, 95, 99)}
    return {"count": len(times), "failures": failures, **percentiles}


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile of sorted values, of which there is at least one: linear between its neighbours."""
    place = (len(values) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return round(values[below] + (values[above] - values[below]) * (place - below), 1)


def write(path: Path, text: str) -> None:
    """Write a file so that nobody reads half of it."""
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def _lines(documents: Iterable[Any]) -> str:
    return "".join(json.dumps(one) + "\n" for one in documents)
