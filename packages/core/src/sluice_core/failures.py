"""The ends that Sluice itself gives to jobs, as their clients see them; a workload has codes of its own.

`sluice_core.metrics.failure` counts them by these codes.
"""

from __future__ import annotations

from sluice_core.jobs import JobError

# Of a request that was never on record.
NOT_PROCESSED = JobError("NOT_PROCESSED", "The request could not be processed; submit it again.")
# Of work that was tried as often as it may be.
RETRIES_EXHAUSTED = JobError("RETRIES_EXHAUSTED", "No attempt could finish the work; submit it again later.")
# Of work whose workers died, the last one too.
WORKER_LOST = JobError("WORKER_LOST", "No worker lived to finish the work; submit it again later.")
# Of work that went on for longer than its executor's `timeout_s`.
TIMED_OUT = JobError("TIMED_OUT", "The work took longer than this type of job may; ask for less at a time.")
# Of work that somebody stopped, and not by cancelling the job.
STOPPED = JobError("STOPPED", "An operator stopped the work; submit it again later.")
# Of work that its executor would not take.
NOT_STARTED = JobError("NOT_STARTED", "The work could not be started; submit it again later.")
