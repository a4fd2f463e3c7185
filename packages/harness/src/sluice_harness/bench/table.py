"""The benchmark's figures as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sluice_harness.bench.targets import Target

# Below it, two decimals say something.
_FEW = 10


def tables(found: Mapping[str, Any], targets: Sequence[Target]) -> Iterator[Table]:
    """Return a table for each part of a bench.json, the targets last."""
    parts = {"cold": _cold, "warm": _warm, "wire": _wire, "cost": _cost, "throughput": _throughput}
    for part, table in parts.items():
        if part in found:
            yield table(found[part])
    if "executors" in found:
        yield _executors(found["executors"])
    yield _targets(targets)


def _new(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _cold(cold: Mapping[str, Any]) -> Table:
    table = _new("Cold starts: CPU of a fresh process", "process", "min ms", "median ms", "x boto3")
    for name, one in cold.items():
        table.add_row(name, f"{one['minMs']:.0f}", f"{one['medianMs']:.0f}", f"{one['ratio']:.2f}")
    return table


def _warm(warm: Mapping[str, Any]) -> Table:
    columns = ("handler ms", "bare calls ms", "ratio", "own work ms", "ratio without", "engine's side ms")
    table = _new("Warm: CPU per job, read, authorization", "function", *columns)
    for name, one in warm.items():
        names = ("handlerMs", "bareMs", "ratio", "workloadMs", "ratioWithoutWork", "engineMs")
        table.add_row(name, *(f"{one[column]:.2f}" for column in names))
    return table


def _executors(executors: Mapping[str, Any]) -> Table:
    per_job = executors["perJob"]
    table = _new(f"A job with one read, a backlog of {executors['jobs']} for each executor", "what", *per_job)
    for name in dict.fromkeys(name for one in per_job.values() for name in one):
        quantities = (one.get(name, 0.0) for one in per_job.values())
        table.add_row(name, *(f"{sum(one.values()) if isinstance(one, dict) else one:.3f}" for one in quantities))
    return table


def _wire(wire: Mapping[str, Any]) -> Table:
    table = _new(f"At the wire, a backlog of {wire['jobs']} jobs", "what", "per job", "per status read")
    job, read = wire["job"], wire["read"]
    for name in dict.fromkeys((*job["calls"], *read["calls"])):
        table.add_row(name, f"{job['calls'].get(name, 0):.3f}", f"{read['calls'].get(name, 0):.3f}")
    table.add_section()
    for label, name in {"write units": "writeUnits", "read units": "readUnits"}.items():
        table.add_row(label, f"{job[name]:.2f}", f"{read[name]:.2f}")
    for name in dict.fromkeys((*job["logBytesBy"], *read["logBytesBy"])):
        sizes = (one["logBytesBy"].get(name, 0.0) for one in (job, read))
        table.add_row(f"bytes logged, {name}", *(f"{size:.0f}" for size in sizes))
    return table


def _cost(cost: Mapping[str, Any]) -> Table:
    by_reads = cost["perMillion"]
    table = _new(
        f"USD per million jobs, prices of {cost['pricesAsOf']}", "line", *(f"{n} reads" for n in by_reads)
    )
    for name in next(iter(by_reads.values())):
        if name == "total":
            table.add_section()
        table.add_row(name, *(f"{lines[name]:.2f}" for lines in by_reads.values()))
    return table


def _throughput(throughput: Mapping[str, Any]) -> Table:
    sizes = throughput["sizes"]
    table = _new("End to end on a fresh local stage", "what", *(f"{size} jobs" for size in sizes))
    labels = {
        "jobsPerS": "jobs per second",
        "submissionsPerS": "submissions per second, mappings on",
        "submissionsAlonePerS": "submissions per second, mappings off",
        "sqsRequests": "SQS requests per job",
        "writeUnits": "write units per job",
        "logBytes": "bytes logged per job",
    }
    for name, label in labels.items():
        table.add_row(label, *(f"{one[name]:.{2 if one[name] < _FEW else 0}f}" for one in sizes.values()))
    table.add_section()
    for percent in next(iter(sizes.values()))["endToEndMs"]:
        values = (f"{one['endToEndMs'][percent]:.0f}" for one in sizes.values())
        table.add_row(f"end to end at half that rate, p{percent} ms", *values)
    table.add_section()
    for name in dict.fromkeys(name for one in sizes.values() for name in one["cpuMs"]):
        values = (f"{one['cpuMs'].get(name, 0.0):.2f}" for one in sizes.values())
        table.add_row(f"CPU ms per job, {name}", *values)
    table.add_row("CPU ms per job, in all", *(f"{one['totalCpuMs']:.2f}" for one in sizes.values()))
    table.add_row(
        "jobs per second, if nothing else ran", *(f"{one['cpuBoundJobsPerS']:.0f}" for one in sizes.values())
    )
    if "limitJobsPerS" in throughput:
        shares = (f"{one['jobsPerS'] / throughput['limitJobsPerS']:.0%}" for one in sizes.values())
        table.add_section()
        table.add_row(f"of what the bare calls alone allow, {throughput['limitJobsPerS']:.0f}/s", *shares)
    return table


def _targets(targets: Sequence[Target]) -> Table:
    table = _new("Targets", "figure", "measured", "target", "")
    for one in targets:
        verdict = "[green]met[/]" if one.is_met else "[red]missed[/]"
        table.add_row(one.name, f"{one.measured:.2f} {one.unit}", f"{one.bound} {one.limit:g}", verdict)
    return table
