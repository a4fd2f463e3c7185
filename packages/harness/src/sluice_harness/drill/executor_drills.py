"""The drills of a stage with external executors, on the alarms that only such a stage has; see `drills`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sluice_core.executors import BATCH, ECS, EXTERNAL, STEP_FUNCTIONS

from sluice_harness.drill.drills import Drill, each
from sluice_harness.drill.watch import DrillError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_harness.drill.site import Site
    from sluice_harness.drill.watch import Watch

# What a local stage cannot raise, and why.
NOT_RAISED: Mapping[str, str] = {
    "workflows-throttled": "the engine has no rate of state transitions",
    **{f"{one}-near-retention": "a job would have to wait for half of its queue's retention" for one in EXTERNAL},
    "function-duration-workflow-step": "a tenth of its timeout is longer than any invocation may be held up",
}
# What is put on a queue for its backlog to be one; the starter takes none of it while there is no slot.
_BACKLOG = 120
# So many jobs of a container that does nothing for so long, of which as many as there are slots run at once.
_LONG_JOBS, _LONG_S = 9, 40.0
_FULL_WITHIN_S = 60.0


def _of_each(kind: str) -> tuple[str, ...]:
    return tuple(f"{executor}-{kind}" for executor in EXTERNAL)


def _start_foreign_workflows(site: Site, _watch: Watch) -> None:
    """Do so in each of the next minutes of the stage's."""
    for _ in range(6):
        site.run_foreign_workflow()
        time.sleep(site.minute_s)


def _fill_executors(site: Site, watch: Watch) -> None:
    """Have all slots taken: by starts that Step Functions puts off, and by containers that take long."""
    site.fault(
        {
            "service": "states",
            "actions": ["StartExecution"],
            # None that the SDK tries again by itself.
            "error": {"status": 400, "code": "ExecutionLimitExceeded"},
        }
    )
    caps = {STEP_FUNCTIONS: 10, BATCH: 3, ECS: 3}
    site.load.submit("weather-workflow", 2 * caps[STEP_FUNCTIONS])
    for job_type in ("weather-batch", "weather-task"):
        site.load.submit(job_type, _LONG_JOBS, _LONG_S)
    deadline = time.monotonic() + _FULL_WITHIN_S
    while any(site.slots_taken(executor) < cap for executor, cap in caps.items()):
        if time.monotonic() > deadline:
            raise DrillError(f"the executors' slots were not taken within {_FULL_WITHIN_S:g} s")
        time.sleep(site.minute_s)
    site.poison(_BACKLOG, *EXTERNAL)
    watch.until_alarm(*_of_each("age-in-quiet-groups"))


def _submit_workflows(site: Site) -> None:
    site.load.extra = {"submit-weather-workflow": 1.0}


def _break_workflow(site: Site, _watch: Watch) -> None:
    site.break_workflow()
    _submit_workflows(site)


def _mend_workflow(site: Site, _watch: Watch) -> None:
    site.load.extra = {}
    site.mend_workflow()


def _throttle_completion(site: Site, _watch: Watch) -> None:
    site.throttle(["completion", "workflow-step"])
    _submit_workflows(site)


def _unthrottle_completion(site: Site, _watch: Watch) -> None:
    site.load.extra = {}
    site.unthrottle(["completion", "workflow-step"])


def _empty_executors(site: Site, _watch: Watch) -> None:
    site.empty(*EXTERNAL)
    site.fault()


def _lose_completions(site: Site, watch: Watch) -> None:
    site.refuse_completions()
    # Events that do not come are given two minutes of real time before anybody asks.
    watch.until_alarm("completions-undelivered")


EXECUTOR_DRILLS = (
    Drill(
        name="foreign-workflows",
        what="executions are started on our state machine that are of no job",
        alarms=("completions-dropped",),
        quiet=("completions-reconciled", "workflows-failed"),
        breaks=_start_foreign_workflows,
        mends=lambda *_: None,
    ),
    Drill(
        name="stopped-completions",
        what="nobody reads the queue of completions",
        alarms=("completion-age-of-oldest",),
        breaks=lambda site, _: site.set_consumers("completion", enabled=False),
        mends=lambda site, _: site.set_consumers("completion", enabled=True),
    ),
    Drill(
        name="full-executors",
        what="all slots are taken, by starts that are put off and by containers that take long",
        alarms=(
            "executions-not-started",
            *_of_each("saturated"),
            *_of_each("age-of-oldest"),
            *_of_each("age-in-quiet-groups"),
            *_of_each("time-to-drain"),
        ),
        breaks=_fill_executors,
        mends=_empty_executors,
    ),
    Drill(
        name="broken-workflow",
        what="a state machine is deployed whose executions fail",
        alarms=("workflows-failed",),
        quiet=("function-errors-workflow-step",),
        breaks=_break_workflow,
        mends=_mend_workflow,
    ),
    Drill(
        name="crashing-starter",
        what="starter and reconciler are deployed with a handler that fails",
        alarms=each("function-errors", ("starter", "reconciler")),
        breaks=lambda site, _: site.break_handlers(["starter", "reconciler"]),
        mends=lambda site, _: site.mend_handlers(["starter", "reconciler"]),
    ),
    Drill(
        name="crashing-completion",
        what="completion and workflow step are deployed with a handler that fails",
        alarms=(*each("function-errors", ("completion", "workflow-step")), "completion-failed-invokes"),
        breaks=lambda site, _: site.break_handlers(["completion", "workflow-step"]),
        mends=lambda site, _: site.mend_handlers(["completion", "workflow-step"]),
    ),
    Drill(
        name="throttled-starter",
        what="no concurrency is left for starter and reconciler",
        alarms=each("function-throttles", ("starter", "reconciler")),
        breaks=lambda site, _: site.throttle(["starter", "reconciler"]),
        mends=lambda site, _: site.unthrottle(["starter", "reconciler"]),
    ),
    Drill(
        name="throttled-completion",
        what="no concurrency is left for completion and workflow step",
        alarms=each("function-throttles", ("completion", "workflow-step")),
        breaks=_throttle_completion,
        mends=_unthrottle_completion,
    ),
    Drill(
        name="slow-executor-functions",
        what="invocations of starter, completion and reconciler take seconds",
        alarms=each("function-duration", ("starter", "completion", "reconciler")),
        breaks=lambda site, _: site.slow(starter=6.5, completion=3.5, reconciler=6.5),
        mends=lambda site, _: site.fault(),
    ),
    Drill(
        name="poisoned-executors",
        what="a message that nobody can read is put on each executor's queue and on that of completions",
        alarms=(*_of_each("dead-letters"), "completion-dead-letters"),
        quiet=("function-errors-starter", "function-errors-completion"),
        # One of each: when its alarm has fired, none is to come that would lie there when all are deleted.
        breaks=lambda site, _: site.poison(1, *EXTERNAL, "completion"),
        mends=lambda site, _: site.empty_dead_letters(),
    ),
    Drill(
        name="silent-reconciler",
        what="the reconciler's schedule is switched off",
        alarms=("reconciler-silent",),
        breaks=lambda site, _: site.set_schedule("reconciler", enabled=False),
        mends=lambda site, _: site.set_schedule("reconciler", enabled=True),
    ),
    Drill(
        name="lost-completions",
        what="the queue of completions takes no events",
        alarms=("completions-undelivered", "completions-reconciled"),
        breaks=_lose_completions,
        mends=lambda site, _: site.take_completions(),
    ),
)
