"""A trace as a waterfall in the terminal: a row for each segment and subsegment, on one axis of time."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sluice_harness.ops.output import moment, plain, show_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    Document = dict[str, Any]

_PIPE_WIDTH = 120
_SHORTEST_BAR = 12
_MARKS = (("fault", "red"), ("throttle", "magenta"), ("error", "yellow"))
_MARK_WIDTH = len("throttle")
_STARTS, _LENGTHS = "start ms", "ms"
# A pause that nothing explains is worth a row from this part of the whole trace on.
_GAP = 0.02
_DECIMALS_BELOW_MS = 10
_SPACES_BETWEEN = 4


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace as X-Ray gives it out.

    Attributes
    ----------
    duration : float
        Seconds, by X-Ray's count.
    segments : list of dict
        The segment documents.

    """

    id: str
    duration: float
    segments: list[Document]

    @property
    def start(self) -> float:
        """When its earliest segment started, in epoch seconds."""
        return min(float(segment["start_time"]) for segment in self.segments)


@dataclass(slots=True)
class Row:
    """One row; times in epoch seconds, no end while it is in progress."""

    depth: int
    document: Document
    start: float
    end: float | None
    is_segment: bool
    children: list[Row] = field(default_factory=list)
    is_drawn: bool = False

    @property
    def mark(self) -> tuple[str, str] | None:
        """What went wrong and its colour, if anything did."""
        return next((mark for mark in _MARKS if self.document.get(mark[0])), None)


def draw(trace: Trace) -> None:
    """Print a trace, as wide as the terminal is."""
    width = shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns
    rows = lay_out(trace.segments)
    end = max(row.end or row.start for row in rows)
    axis = _Axis(trace.start, max(end - trace.start, 1e-6))
    console = Console(file=sys.stdout, highlight=False, width=width)
    console.print(_title(trace, axis))
    with console.capture() as drawn:
        console.print(_table(rows, axis, width))
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in drawn.get().splitlines())
    _show_notes(rows)


def lay_out(segments: list[Document]) -> list[Row]:
    """Return the rows in the order in which they are drawn: each below its parent, by when they started."""
    rows = [row for segment in segments for row in _entities(segment, is_segment=True)]
    rows.sort(key=lambda row: row.start)
    by_id = {row.document["id"]: row for row in rows}
    roots: list[Row] = []
    for row in rows:
        parent = by_id.get(row.document.get("parent_id"))
        (roots if parent is None or parent is row else parent.children).append(row)
    drawn: list[Row] = []
    for row in (*roots, *rows):  # all of them: what calls itself has no root, and is to be seen too
        _descend(row, 0, drawn)
    return drawn


def _entities(document: Document, *, is_segment: bool) -> Iterator[Row]:
    end = document.get("end_time")
    yield Row(0, document, float(document["start_time"]), None if end is None else float(end), is_segment)
    for child in document.get("subsegments", []):
        yield from _entities({"parent_id": document["id"], **child}, is_segment=False)


def _descend(row: Row, depth: int, drawn: list[Row]) -> None:
    if row.is_drawn:
        return
    row.depth, row.is_drawn = depth, True
    drawn.append(row)
    for child in row.children:
        _descend(child, depth + 1, drawn)


@dataclass(frozen=True, slots=True)
class _Axis:
    start: float
    length: float

    def ms(self, at: float) -> str:
        return _ms(at - self.start)

    def place(self, start: float, end: float, width: int) -> tuple[int, int]:
        """Return the first column of a bar and how many it has; the shortest has one."""
        first = min(int((start - self.start) / self.length * width), width - 1)
        last = round((end - self.start) / self.length * width)
        return first, max(1, min(last, width) - first)


def _title(trace: Trace, axis: _Axis) -> Text:
    began = moment(int(trace.start * 1000), time.time_ns() // 1_000_000)
    return Text("trace ").append(trace.id, "bold").append(f"\n{began}, {_ms(axis.length)} ms")


def _table(rows: list[Row], axis: _Axis, width: int) -> Table:
    gaps = _gaps(rows, axis)
    marks = _MARK_WIDTH + 1 if any(row.mark for row in rows) else 0
    starts = max(len(_STARTS), *(len(axis.ms(row.start)) for row in rows))
    lengths = max(len(_lasted(row)) for row in rows)
    lengths = max(lengths, *(len(_ms(end - start)) for start, end in gaps), len(_LENGTHS))
    indent = 2 if width > _PIPE_WIDTH - 1 else 1
    longest = max(row.depth * indent + len(_label(row)) for row in rows)
    names = min(longest, max(20, int(width * 0.38)))
    bars = max(_SHORTEST_BAR, width - names - starts - lengths - marks - _SPACES_BETWEEN)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", collapse_padding=True)
    table.add_column("", width=names, no_wrap=True, overflow="ellipsis")
    table.add_column(_STARTS, width=starts, justify="right")
    table.add_column(_LENGTHS, width=lengths, justify="right")
    table.add_column("", width=bars, no_wrap=True)
    if marks:
        table.add_column("", width=_MARK_WIDTH)
    for row in rows:
        while gaps and gaps[0][1] <= row.start:
            table.add_row(*_gap_cells(*gaps.pop(0), axis, bars))
        table.add_row(*_cells(row, axis, indent, bars))
    return table


def _cells(row: Row, axis: _Axis, indent: int, bars: int) -> list[Text]:
    colour = row.mark[1] if row.mark else ("cyan" if row.document.get("namespace") == "aws" else "green")
    name = Text(" " * indent * row.depth).append_text(_label(row))
    end = axis.start + axis.length if row.end is None else row.end
    first, length = axis.place(row.start, end, bars)
    drawn = Text(" " * first).append(("█" if row.end is not None else "░") * length, colour)
    return [name, Text(axis.ms(row.start)), Text(_lasted(row)), drawn, Text(*row.mark) if row.mark else Text()]


def _lasted(row: Row) -> str:
    return "open" if row.end is None else _ms(row.end - row.start)


def _label(row: Row) -> Text:
    document = row.document
    text = plain(document["name"])
    if row.is_segment:
        text.stylize("bold")
    if row.is_segment and (origin := document.get("origin")):
        # First, for a function's two segments have the same long name.
        return plain(f"{str(origin).removeprefix('AWS::')} ").append_text(text)
    operation = (document.get("aws") or {}).get("operation")
    return text.append_text(plain(f" {operation}")) if operation else text


def _gaps(rows: list[Row], axis: _Axis) -> list[tuple[float, float]]:
    """Return when nothing was recorded for a while, in order."""
    found = []
    covered = axis.start
    for row in sorted(rows, key=lambda one: one.start):
        if row.start - covered >= _GAP * axis.length:
            found.append((covered, row.start))
        covered = max(covered, axis.start + axis.length if row.end is None else row.end)
    return found


def _gap_cells(start: float, end: float, axis: _Axis, bars: int) -> list[Text]:
    first, length = axis.place(start, end, bars)
    drawn = Text(" " * first + "·" * length, "dim")
    return [Text("(nothing recorded)", "dim"), Text(axis.ms(start), "dim"), Text(_ms(end - start), "dim"), drawn]


def _ms(seconds: float) -> str:
    milliseconds = seconds * 1000
    return f"{milliseconds:.1f}" if milliseconds < _DECIMALS_BELOW_MS else f"{milliseconds:,.0f}"


def _show_notes(rows: list[Row]) -> None:
    """Print what the trace is annotated with, the request's own words, and what the faults were."""
    notes: dict[str, dict[str, None]] = {}
    for row in rows:
        http = row.document.get("http") or {}
        if row.is_segment and (request := http.get("request")):
            status = (http.get("response") or {}).get("status", "no answer")
            _note(notes, "request", f"{request.get('method')} {request.get('url')}: {status}")
        for key, value in (row.document.get("annotations") or {}).items():
            if not key.startswith("aws:"):
                _note(notes, key, value)
        cause = row.document.get("cause")
        for exception in cause.get("exceptions", []) if isinstance(cause, dict) else []:
            said = ": ".join(filter(None, (exception.get("type"), exception.get("message"))))
            _note(notes, "cause", f"{row.document['name']}: {said}")
    show_fields([(name, ", ".join(values)) for name, values in notes.items()])


def _note(notes: dict[str, dict[str, None]], name: str, value: object) -> None:
    notes.setdefault(name, {})[str(value)] = None
