"""Functions die anywhere: between any two of their calls, and what they were about goes on all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sluice_core.jobs import JobStatus
from unit.lambda_events import job
from unit.state_changes import output
from unit.wire_faults import Death

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sluice_core.jobs import Submission
    from unit.external_stage import ExternalStage

    Life = Callable[[], object]


def deaths(external: ExternalStage, live: Callable[[Submission], Life]) -> Iterator[Submission]:
    """Have a function die in its first call, then, with another job, in its second, until it dies no more."""
    for number in range(100):
        mine = job(f"job-{number}", n=number)
        life = live(mine)
        external.wire.die_in_call(number)
        try:
            life()
            has_died = False
        except Death:
            has_died = True
        external.wire.relent()
        yield mine
        if not has_died:
            assert number > 5
            return
    pytest.fail("it makes more calls than anybody could look at")


def recover(external: ExternalStage, mine: Submission) -> None:
    """Let time pass until all that was left is taken up again."""
    external.show("stepfunctions")
    external.age(mine)
    external.start(None)
    external.start(None)


def finish(external: ExternalStage, mine: Submission, now_ms: int) -> None:
    """Let a job's workflow succeed, and see that it was one, of one start, and leaves nothing."""
    row = external.row(mine)
    [execution] = external.services["stepfunctions"].of(mine)
    assert (row.handle, row.starts) == (execution.handle, 1)
    stored = external.store(external.claim(row, now_ms, 3_600_000, token=row.start_token))
    assert external.complete(external.event(row, "succeeded", "stepfunctions", output=output(stored))) == []
    assert external.row(mine).status is JobStatus.COMPLETED


def nothing_is_left(external: ExternalStage, now_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """See that a while later no slot, message or object is left but the jobs' results."""
    monkeypatch.setattr(external.function("reconciler"), "now_ms", lambda: now_ms + 3_600_000)
    external.reconcile()
    assert external.held("stepfunctions") == set()
    assert external.queues["stepfunctions"].depth() == (0, 0)
    assert external.dead_letters["stepfunctions"].depth() == (0, 0)
    assert {key.partition("/")[0] for key in set(external.bucket.keys())} <= {"results"}


def test_a_starter_may_die_anywhere(external: ExternalStage, monkeypatch: pytest.MonkeyPatch, now_ms: int) -> None:
    # Given room for the slots of the dead, which are freed in their time
    monkeypatch.setattr("unit.external_stage.CAP", 1_000)

    def start(mine: Submission) -> Life:
        external.queue(mine, executor="stepfunctions")
        return lambda: external.start("stepfunctions")

    # When a starter dies in any of its calls, then the job is started by the next, once
    for mine in deaths(external, start):
        recover(external, mine)
        finish(external, mine, now_ms)
    nothing_is_left(external, now_ms, monkeypatch)


def test_a_settler_may_die_anywhere(external: ExternalStage, monkeypatch: pytest.MonkeyPatch, now_ms: int) -> None:
    def complete(mine: Submission) -> Life:
        [row] = external.started(mine, executor="stepfunctions")
        attempt = external.claim(row, now_ms, 3_600_000, token=row.start_token)
        event = external.event(row, "succeeded", "stepfunctions", output=output(external.store(attempt)))
        events[mine.key] = event
        return lambda: external.complete(event)

    # When the completion function dies in any of its calls, then the event comes again, and all is well
    events: dict[object, dict[str, object]] = {}
    for mine in deaths(external, complete):
        assert external.complete(events[mine.key]) == []
        assert external.row(mine).status is JobStatus.COMPLETED
        assert external.held("stepfunctions") == set()
    nothing_is_left(external, now_ms, monkeypatch)


def test_a_restart_may_be_cut_short_anywhere(external: ExternalStage, now_ms: int) -> None:
    def lose(mine: Submission) -> Life:
        [row] = external.started(mine)
        event = external.event(row, "crashed")
        events[mine.key] = event
        return lambda: external.complete(event)

    # When the completion function dies while it has a lost job started again, then the event comes again
    events: dict[object, dict[str, object]] = {}
    for mine in deaths(external, lose):
        assert external.complete(events[mine.key]) == []
        external.start()
        # Then there is one start more, and no message of another
        row = external.row(mine)
        assert (row.starts, len(external.services["ecs"].of(mine))) == (2, 2)
        assert external.queues["ecs"].depth() == (0, 0)
        attempt = external.claim(row, now_ms)
        external.ledger.complete([(attempt, external.store(attempt))], now_ms)
        assert external.complete(external.event(row, "succeeded")) == []
        assert external.held() == set()
