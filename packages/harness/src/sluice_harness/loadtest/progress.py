"""A session as it goes on, in the terminal, and its verdict as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from rich.table import Table
from rich.text import Text

from sluice_harness.demo import progress_bars

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from rich.console import Console
    from rich.progress import TaskID

    from sluice_harness.loadtest.verdict import Verdict


class Display:
    """Bars of what the load generator and the queues say, and a line of what is being done."""

    def __init__(self, console: Console) -> None:
        self._bars = progress_bars(console)
        self._step = self._bars.add_task("beginning", total=None)
        self._shown: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.update(self._step, description="done", total=1, completed=1)
        self._bars.stop()

    def tell(self, what: str) -> None:
        """Say what is being done."""
        self._bars.update(self._step, description=what)

    def show(self, said: Mapping[str, Any], depths: Mapping[str, int]) -> None:
        """Show ``progress.json`` and, if they are given, how many messages the queues hold."""
        if not said:
            self.tell("starting Locust")
            return
        waiting = ", ".join(f"{count:,} in the {name} queue" for name, count in depths.items())
        self.tell(f"making load ({said['phase']}, {said['users']} at work)")
        self._bar("accepted with 202", said["submitted"], said["asked"])
        self._bar(f"ended, of those followed{f' ({waiting})' if waiting else ''}", said["ended"], said["followed"])
        self._bar("errors", said["errors"], None)

    def _bar(self, what: str, completed: int, total: int | None) -> None:
        name = what.partition(" (")[0]
        if name not in self._shown:
            self._shown[name] = self._bars.add_task(what, total=total)
        self._bars.update(self._shown[name], description=what, completed=completed, total=total)


def verdict_table(verdict: Verdict) -> Table:
    """Return every check with its measured value."""
    table = Table(title="Verdict", title_justify="left")
    for column in ("", "check", "expected", "measured"):
        table.add_column(column, overflow="fold")
    group = ""
    for check in verdict.checks:
        if check.group != group:
            group = check.group
            table.add_section()
        held = Text("held", "green") if check.held else Text("FAILED", "bold red")
        table.add_row(held, Text(f"{check.group}: {check.name}"), Text(check.expected), Text(check.measured))
    return table
