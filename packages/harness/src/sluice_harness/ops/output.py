"""How the operator tools speak: tables on standard output, progress on standard error, JSON if asked for."""

from __future__ import annotations

import json
import signal
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

_MS_PER_S = 1000
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
_BETWEEN_COLUMNS = 2


def plain(value: object) -> Text:
    """Return text that shows as it is: what comes from a message may try to be markup or to steer a terminal."""
    return Text("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(value)))


def console(*, progress: bool = False) -> Console:
    """Return standard output, or standard error for progress; made anew, for tests replace both."""
    stream = sys.stderr if progress else sys.stdout
    return Console(file=stream, highlight=False)


def say(text: str) -> None:
    """Print one line."""
    console().print(plain(text), soft_wrap=True)


def show_json(document: object) -> None:
    """Print a document for machines."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows, one a line however narrow the terminal is: ids and commands are there to be copied."""
    header = [[Text(column, style="bold") for column in columns]] if any(columns) else []
    lines = [*header, *([plain(value) for value in row] for row in rows)]
    widths = [max(cell.cell_len for cell in column) for column in zip(*lines, strict=True)]
    target = console()
    for cells in lines:
        for cell, width in zip(cells, widths, strict=True):
            cell.pad_right(width - cell.cell_len + _BETWEEN_COLUMNS)
        line = Text().join(cells)
        line.rstrip()
        target.print(line, soft_wrap=True)


def show_fields(fields: Sequence[tuple[str, object]]) -> None:
    """Print one thing's fields, one a line."""
    show_table(("", ""), [(name, value) for name, value in fields if value not in (None, "")])


def age(milliseconds: float) -> str:
    """Return a duration in its two largest units."""
    left = max(0, int(milliseconds / _MS_PER_S))
    parts = []
    for unit, size in _UNITS:
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2]) or "0 s"


def moment(at_ms: int | None, now_ms: int) -> str:
    """Return a time in UTC, and how far from now that is."""
    if not at_ms:
        return ""
    stamp = iso(at_ms)
    distance = now_ms - at_ms
    return f"{stamp} ({age(distance)} ago)" if distance >= 0 else f"{stamp} (in {age(-distance)})"


def iso(at_ms: int | None) -> str | None:
    """Return a time as ISO 8601 with milliseconds, in UTC."""
    if not at_ms:
        return None
    text = datetime.fromtimestamp(at_ms / _MS_PER_S, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


@contextmanager
def bar(text: str, total: int | None = None) -> Iterator[Bar]:
    """Show progress on standard error while something long goes on; an unknown total is a bar that swings."""
    columns: list[Any] = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn()]
    columns += [MofNCompleteColumn()] if total is not None else []
    columns += [TimeElapsedColumn()]
    target = console(progress=True)
    is_idle = total is None and not target.is_terminal  # a bar that only swings says nothing in a log
    with Progress(*columns, console=target, transient=total is None, disable=is_idle) as progress:
        yield Bar(progress, text, total)


class Bar:
    """One bar."""

    def __init__(self, progress: Progress, text: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(text, total=total)

    def advance(self) -> None:
        """One more is done."""
        self._progress.advance(self._task)

    def reach(self, done: int, total: int) -> None:
        """So many of so many are done."""
        self._progress.update(self._task, completed=done, total=total)

    def tell(self, text: str) -> None:
        """Say what is being done now."""
        self._progress.update(self._task, description=text)


class Interrupt:
    """Ctrl-C, taken note of and acted upon where it does no harm; the second one is an ordinary one."""

    def __init__(self) -> None:
        self.came = False

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        self.came = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
