"""``sluice-ops trace``: what it draws of a trace, what it finds, and what it says where there is none."""

from __future__ import annotations

import json
import os
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from sluice_harness.ops.__main__ import main

if TYPE_CHECKING:
    from unit.conftest import ClientMaker
    from unit.operated import Operated

    Capture = pytest.CaptureFixture[str]
    Document = dict[str, Any]

ORIGIN = "AWS::ApiGateway::Stage"


class Traces:
    """Writes traces of a job as its functions do."""

    def __init__(self, engine: ClientMaker) -> None:
        self._xray = engine.client("xray")
        self.job = f"job-{_new_id()}"

    def write(self, *segments: Document, ago: float = 60.0) -> str:
        """Write a trace of segments whose times are in milliseconds from its start; return its id."""
        began = time.time() - ago
        root = f"1-{int(began):08x}-{os.urandom(12).hex()}"
        texts = [json.dumps({"trace_id": root, **_at(segment, began)}) for segment in segments]
        assert self._xray.put_trace_segments(TraceSegmentDocuments=texts)["UnprocessedTraceSegments"] == []
        return root


@pytest.fixture
def traces(engine: ClientMaker) -> Traces:
    return Traces(engine)


def entity(name: str, start: float, end: float | None, parent: Document | None = None, **more: Any) -> Document:
    """Return a segment or subsegment, times in milliseconds."""
    ends = {"end_time": end} if end is not None else {"in_progress": True}
    above = {"parent_id": parent["id"]} if parent else {}
    return {"id": _new_id(), "name": name, "start_time": start, **ends, **above, **more}


def journey(job: str) -> list[Document]:
    """A job's way: the API, a queue, a function that fails; half of the time nothing is recorded."""
    call = entity("SQS", 5, 20, namespace="aws", aws={"operation": "SendMessage"})
    request = {"request": {"method": "POST", "url": "http://api/submit-job"}, "response": {"status": 202}}
    api = entity(
        "api/prod", 0, 25, origin=ORIGIN, http=request, annotations={"aws:api_id": "x"}, subsegments=[call]
    )
    wait = entity("work-queue", 20, 400, call)
    first = entity("S3", 410, 450, namespace="aws", aws={"operation": "PutObject"}, throttle=True)
    cause = {"exceptions": [{"id": _new_id(), "type": "OSError", "message": "disk on fire"}]}
    noted = {"jobId": job, "jobType": "weather-report", "outcome": "retried"}
    work = entity("simulator", 400, 500, wait, annotations=noted, fault=True, cause=cause, subsegments=[first])
    again = entity("simulator", 1000, None, wait, annotations={"outcome": "completed"})
    return [again, work, api, wait]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal's width may be in the environment, and libraries that ran before may have set it."""
    monkeypatch.setenv("COLUMNS", "120")


def test_a_trace_is_drawn_in_the_order_of_its_calls(operated: Operated, traces: Traces, capsys: Capture) -> None:
    # given a job's trace, when it is shown
    root = traces.write(*journey(traces.job))
    assert operated.run("trace", traces.job) == 0

    # then each row is below its caller, with its start, its duration and what went wrong
    shown = capsys.readouterr().out
    assert root in shown
    assert "1,000 ms" in shown
    assert [line for line in shown.splitlines() if line != line.rstrip()] == []
    rows = [(name, start, lasted, marked) for name, start, lasted, _, marked in drawn(shown)]
    assert rows == [
        ("ApiGateway::Stage api/prod", "0.0", "25", ""),
        ("  SQS SendMessage", "5.0", "15", ""),
        ("    work-queue", "20", "380", ""),
        ("      simulator", "400", "100", "fault"),
        ("        S3 PutObject", "410", "40", "throttle"),
        ("(nothing recorded)", "500", "500", ""),
        ("      simulator", "1,000", "open", ""),
    ]


def test_bars_are_on_a_common_axis(operated: Operated, traces: Traces, capsys: Capture) -> None:
    traces.write(*journey(traces.job))
    assert operated.run("trace", traces.job) == 0
    bars = {(name.strip(), start): bar for name, start, _, bar, _ in drawn(capsys.readouterr().out)}

    def part(name: str, start: str) -> tuple[float, float]:
        bar = bars[name, start]
        begin = len(bar) - len(bar.lstrip())
        return begin / longest, len(bar.rstrip()) / longest

    longest = len(bars["simulator", "1,000"].rstrip())
    step = 1.5 / longest
    assert part("work-queue", "20") == pytest.approx((0.02, 0.4), abs=step)
    assert part("simulator", "400") == pytest.approx((0.4, 0.5), abs=step)
    assert part("(nothing recorded)", "500") == pytest.approx((0.5, 1.0), abs=step)
    assert set(bars["(nothing recorded)", "500"].strip()) == {"·"}
    assert bars["simulator", "1,000"].strip() == "░"
    assert set(bars["work-queue", "20"].strip()) == {"█"}


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_it_is_as_wide_as_the_terminal(
    operated: Operated, traces: Traces, capsys: Capture, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    # given a terminal of this width, when a trace is drawn
    monkeypatch.setenv("COLUMNS", str(columns))
    traces.write(*journey(traces.job))
    assert operated.run("trace", traces.job) == 0

    # then its bars reach to the end, marks aside, and no row is longer or broken in two
    lines = capsys.readouterr().out.splitlines()
    table = lines[lines.index(next(line for line in lines if "start ms" in line)) :][:8]
    assert max(map(len, table)) <= columns
    last_bar = max(len(re.sub(" (fault|throttle) *$", "", line).rstrip()) for line in table)
    assert last_bar >= columns - len(" throttle") - 2
    assert "open" in table[7]


def test_below_it_stands_what_is_known_of_the_job(operated: Operated, traces: Traces, capsys: Capture) -> None:
    traces.write(*journey(traces.job))
    assert operated.run("trace", traces.job) == 0
    notes = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in _notes(capsys.readouterr().out))
    assert notes == {
        "request": "POST http://api/submit-job: 202",
        "jobId": traces.job,
        "jobType": "weather-report",
        "outcome": "retried, completed",
        "cause": "simulator: OSError: disk on fire",
    }


def test_several_traces_come_one_after_another(operated: Operated, traces: Traces, capsys: Capture) -> None:
    # given more traces of a job than one call gives out, and one of another job
    noted = {"annotations": {"jobId": traces.job}}
    roots = [traces.write(entity("processor", 0, 1, **noted), ago=600 - 60 * n) for n in (3, 0, 1, 2, 5, 4)]
    other = traces.write(entity("processor", 0, 1, annotations={"jobId": "other"}))

    # then all of the job's are shown, the oldest first
    assert operated.run("trace", traces.job) == 0
    shown = capsys.readouterr().out
    assert re.findall(r"trace (1-[0-9a-f-]+)", shown) == [roots[n] for n in (1, 2, 3, 0, 5, 4)]
    assert other not in shown


def test_the_documents_are_there_for_machines(operated: Operated, traces: Traces, capsys: Capture) -> None:
    root = traces.write(*journey(traces.job))
    assert operated.run("trace", traces.job, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    [trace] = document["traces"]
    assert (document["jobId"], trace["id"], trace["duration"]) == (traces.job, root, 1.0)
    assert sorted(one["name"] for one in trace["segments"]) == ["api/prod", "simulator", "simulator", "work-queue"]


def test_a_job_that_was_not_sampled_is_said_not_to_be_and_how_one_is(
    operated: Operated, traces: Traces, capsys: Capture
) -> None:
    assert operated.run("trace", traces.job) == 1
    said = capsys.readouterr().err
    assert f"no trace of job {traces.job} began within the last 6 hours. It was not sampled" in said
    assert re.search(r"X-Amzn-Trace-Id: Root=1-[0-9a-f]{8}-[0-9a-f]{24};Sampled=1\n", said)


def test_it_looks_back_as_far_as_it_is_told(operated: Operated, traces: Traces, capsys: Capture) -> None:
    # given a trace of more than a day ago, which is more than one call may ask for
    root = traces.write(entity("processor", 0, 1, annotations={"jobId": traces.job}), ago=30 * 3600)

    # then it is found if asked for
    assert operated.run("trace", traces.job) == 1
    assert operated.run("trace", traces.job, "--hours", "29.5") == 1
    capsys.readouterr()
    assert operated.run("trace", traces.job, "--hours", "50") == 0
    assert root in capsys.readouterr().out


def test_a_name_cannot_steer_the_terminal(operated: Operated, traces: Traces, capsys: Capture) -> None:
    traces.write(entity("[red]not markup[/]\x1b[2J", 0, 1, annotations={"jobId": traces.job, "x": "\x1b[2J"}))
    assert operated.run("trace", traces.job) == 0
    shown = capsys.readouterr().out
    assert "[red]not markup[/]" in shown
    assert "\x1b" not in shown


def test_segments_that_call_each_other_do_not_hide_the_trace(
    operated: Operated, traces: Traces, capsys: Capture
) -> None:
    # given a trace that is none of a healthy program's: two segments are each other's parents
    noted = {"annotations": {"jobId": traces.job}}
    first, second = entity("first", 0, 1, **noted), entity("second", 0, 1)
    first["parent_id"], second["parent_id"] = second["id"], first["id"]
    traces.write(first, second)

    # then both are shown
    assert operated.run("trace", traces.job) == 0
    assert [row[0].strip() for row in drawn(capsys.readouterr().out)] == ["first", "second"]


@pytest.mark.parametrize("hours", ["0", "721", "-1", "x"])
def test_hours_that_make_no_sense_end_with_2(hours: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["trace", "x", "--hours", hours])
    assert ended.value.code == 2
    assert "--hours" in capsys.readouterr().err


def test_it_explains_itself(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["trace", "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "example:\n  uv run sluice-ops trace " in shown
    assert max(map(len, shown.splitlines())) <= 100


def drawn(shown: str) -> list[tuple[str, str, str, str, str]]:
    """Read the rows of the first waterfall: name, start, duration, bar and mark."""
    lines = shown.splitlines()
    head = next(line for line in lines if "start ms" in line)
    ends = head.index("start ms") + len("start ms")
    rows = []
    for line in lines[lines.index(head) + 1 :]:
        found = re.fullmatch(r"(.*\S)\s+([\d.,]+)\s+([\d.,]+|open) ([ █░·]*?)\s*(fault|throttle|error|) *", line)
        if not found or found.end(2) != ends:
            break
        rows.append((found[1], found[2], found[3], found[4], found[5]))
    return rows


def _notes(shown: str) -> list[str]:
    lines = shown.splitlines()
    return lines[next(n for n, line in enumerate(lines) if line.startswith("request ")) :]


def _at(entity_: Document, began: float) -> Document:
    times: Document = {
        name: began + entity_[name] / 1000 for name in ("start_time", "end_time") if name in entity_
    }
    children = [_at(child, began) for child in entity_.get("subsegments", [])]
    return {**entity_, **times, **({"subsegments": children} if children else {})}


def _new_id() -> str:
    return os.urandom(8).hex()
