"""What the benchmark must reach, and whether it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sluice_harness.bench.figures import growth

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

JOBS_PER_S_AT = 5_000
_COLD = {"authorizer": 0.7, "processor": 1.25, "batch-simulator": 1.25, "job-status": 1.25}
_COLD_SAMPLED = 2.2
_WARM = 1.5


@dataclass(frozen=True, slots=True)
class Target:
    """One figure beside what it must be.

    Attributes
    ----------
    bound : str
        ``at most`` or ``at least`` the limit.

    """

    name: str
    measured: float
    bound: Literal["at most", "at least"]
    limit: float
    unit: str

    @property
    def is_met(self) -> bool:
        """Whether the figure is within its bound."""
        return self.measured <= self.limit if self.bound == "at most" else self.measured >= self.limit

    def shown(self) -> dict[str, Any]:
        """Return it as bench.json has it."""
        return {
            "name": self.name,
            "measured": round(self.measured, 3),
            "bound": self.bound,
            "limit": self.limit,
            "unit": self.unit,
            "isMet": self.is_met,
        }


def judge(found: Mapping[str, Any]) -> list[Target]:
    """Return the targets of those parts that a bench.json has."""
    parts = {"cold": _cold, "warm": _warm, "wire": _wire, "cost": _cost, "throughput": _throughput}
    return [target for part, targets in parts.items() if part in found for target in targets(found[part])]


def ratios(found: Mapping[str, Any]) -> dict[str, float]:
    """Return every ratio of a bench.json by name: what two runs must agree on."""
    return {
        f"{part} {name} {which}": one[which]
        for part in ("cold", "warm")
        for name, one in found.get(part, {}).items()
        for which in ("ratio", "ratioWithoutWork")
        if one.get(which)  # an empty interpreter has none
    }


def disagreements(one: Mapping[str, Any], other: Mapping[str, Any], *, share: float = 0.15) -> dict[str, float]:
    """Return by how much two runs' ratios differ, as a share of the smaller, where that is more than allowed."""
    mine, theirs = ratios(one), ratios(other)
    differ = {
        name: max(mine[name], theirs[name]) / min(mine[name], theirs[name]) - 1 for name in mine & theirs.keys()
    }
    return {name: difference for name, difference in sorted(differ.items()) if difference > share}


def _cold(cold: Mapping[str, Any]) -> Iterator[Target]:
    for name, one in cold.items():
        if name in _COLD:
            yield Target(f"cold start, {name}", one["ratio"], "at most", _COLD[name], "x boto3")
        elif name.endswith(", sampled"):
            yield Target(f"cold start, {name}", one["ratio"], "at most", _COLD_SAMPLED, "x boto3")


def _warm(warm: Mapping[str, Any]) -> Iterator[Target]:
    for name in ("processor", "batch-simulator", "job"):
        if name in warm:
            # The work itself is what people replace; with it the ratio says how long a weather report is.
            without = warm[name]["ratioWithoutWork"]
            yield Target(f"warm CPU, {name}, without the work", without, "at most", _WARM, "x bare")


def _wire(wire: Mapping[str, Any]) -> Iterator[Target]:
    job = wire["job"]
    yield Target("SQS requests per job", job["requests"]["sqs"], "at most", 1.6, "")
    yield Target("DynamoDB write units per job", job["writeUnits"], "at most", 4.0, "WRU")
    yield Target("S3 puts per job", job["requests"]["s3"], "at most", 1.0, "")
    yield Target("logged per job, functions", job["functionsLogBytes"] / 1000, "at most", 1.5, "KB")
    yield Target("logged per job, access log too", job["logBytes"] / 1000, "at most", 1.5, "KB")


def _cost(cost: Mapping[str, Any]) -> Iterator[Target]:
    yield Target("a million jobs, one read each", cost["perMillion"]["1"]["total"], "at most", 17.0, "USD")


def _throughput(throughput: Mapping[str, Any]) -> Iterator[Target]:
    sizes = {int(size): one for size, one in throughput["sizes"].items()}
    main = sizes.get(JOBS_PER_S_AT, sizes[max(sizes)])
    yield Target("jobs per second, end to end", main["jobsPerS"], "at least", 200.0, "/s")
    yield Target("submissions per second, mappings off", main["submissionsAlonePerS"], "at least", 800.0, "/s")
    if len(sizes) > 1:
        fall = growth({size: one["jobsPerS"] for size, one in sizes.items()})
        yield Target(f"fall of the rate, {min(sizes)} to {max(sizes)} jobs", fall * 100, "at most", 20.0, "%")
