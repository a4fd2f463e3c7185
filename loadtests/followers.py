"""Users who stay with their jobs: submit, ask as often as Retry-After says, and look at what came of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import gevent
from answers import NOT_FOUND, OK, Complaint, unexpected, wrong_end, wrong_result
from records import between_ms, now_ms
from users import Forgetter, new_token, parameters

if TYPE_CHECKING:
    from answers import Answer
    from pacing import Arrival
    from records import JobRecord
    from tokens import Owner

_STATUS = "GET /job-status/{job-id}"
_DOWNLOAD = "GET result"
# A job that waits long is asked for less often: a tenth of its age more, so that its end is known that well.
_SHARE_OF_AGE, _LONGEST_PAUSE_S = 0.1, 10.0


class Submitter(Forgetter):
    """Submits under a clientToken, follows its job to the end and downloads the result."""

    abstract = False
    weight = 5
    kind = "submitter"

    def act(self, arrival: Arrival, intended_at: float) -> None:
        """Submit one job, and follow it beside."""
        body = {"clientToken": new_token(), "parameters": parameters(arrival)}
        self.submit_and_follow(arrival, intended_at, body)

    def submit_and_follow(
        self, arrival: Arrival, intended_at: float, body: dict[str, Any], code: str | None = None
    ) -> None:
        """Submit, and follow the job to COMPLETED, or to FAILED with this error code."""
        record = self.submit(arrival, intended_at, body)
        if record is None:
            return
        if record["jobId"] != body["clientToken"]:
            record["complaint"] = "its id is not its clientToken"
        self.process.recorder.followed += 1
        self.process.open[record["jobId"]] = record
        self.process.follow(self._follow, self.owner_of(arrival), record, code)

    def _follow(self, owner: Owner, record: JobRecord, code: str | None) -> None:
        accepted, pause_s = time.monotonic(), 1.0
        while self.process.has_patience(accepted):
            gevent.sleep(max(pause_s, min(_SHARE_OF_AGE * (time.monotonic() - accepted), _LONGEST_PAUSE_S)))
            answer, complaint = self._look(owner, record)
            if complaint is not None or answer.status != OK:
                continue
            self._saw(owner, record, answer)
            if "Retry-After" not in answer.headers:
                self._ended(owner, record, answer.document, code)
                return
            pause_s = float(answer.headers["Retry-After"])
        self._lost(record)

    def _look(self, owner: Owner, record: JobRecord) -> tuple[Answer, Complaint | None]:
        # Until it is recorded, nobody knows a job whose id its client chose.
        right = (OK,) if record["visibleMs"] is not None else (OK, NOT_FOUND)
        path = f"/job-status/{record['jobId']}"
        return self.get(owner, path, _STATUS, lambda answer: unexpected(answer, *right))

    def _saw(self, owner: Owner, record: JobRecord, answer: Answer) -> None:
        if record["visibleMs"] is None:
            record["visibleMs"] = visible_ms = now_ms() - record["acceptedAt"]
            self.process.job_time("time to visible", visible_ms)
            self.process.visible.append((owner, record["jobId"]))
        shown = answer.document
        record["status"] = shown.get("status")
        record["submittedAt"], record["startedAt"] = shown.get("submittedAt"), shown.get("startedAt")
        self.process.recorder.changed(record)

    def _ended(self, owner: Owner, record: JobRecord, shown: dict[str, Any], code: str | None) -> None:
        self.process.saw_end()
        self.process.ended.append((owner, record["jobId"]))
        seen_at = record["endSeenAt"] = now_ms()
        record["endedAt"] = shown.get("endedAt")
        complaint = wrong_end(shown, record["expected"], code)
        if complaint is not None:
            record["complaint"] = str(complaint)
        if complaint is not None or code is None:
            self.process.job_time("end to end", seen_at - record["intendedAt"], complaint)
        self._service_times(record)
        if complaint is None and record["status"] == "COMPLETED":
            self._download(record, shown["result"])
        self._closed(record)

    def _service_times(self, record: JobRecord) -> None:
        for what, first, last in (
            ("queue wait", record["submittedAt"], record["startedAt"]),
            ("run time", record["startedAt"], record["endedAt"]),
        ):
            if (ms := between_ms(first, last)) is not None:
                self.process.job_time(what, ms)

    def _download(self, record: JobRecord, result: dict[str, Any]) -> None:
        began = time.monotonic()
        answer, complaint = self.call("GET", result["url"], _DOWNLOAD, lambda answer: wrong_result(answer, result))
        record["bytes"] = len(answer.content)
        if complaint is not None:
            record["complaint"] = str(complaint)
            return
        record["downloadMs"] = download_ms = (time.monotonic() - began) * 1000
        self.process.job_time("download", download_ms)

    def _lost(self, record: JobRecord) -> None:
        lost = Complaint("job lost", "no end was seen, nor that of any other job, for as long as patience lasts")
        record["complaint"] = str(lost)
        self.process.job_time("end to end", now_ms() - record["intendedAt"], lost)
        self._closed(record)

    def _closed(self, record: JobRecord) -> None:
        self.process.recorder.changed(record)
        self.process.open.pop(record["jobId"], None)


_DEEP: dict[str, Any] = {}
for _ in range(120):
    _DEEP = {"deeper": _DEEP}
# What the gateway's schema lets pass and nothing behind it can work on, and the error that has to come of it.
_REFUSED_LATER: tuple[tuple[dict[str, Any], str], ...] = (
    ({"station": "half a pair \ud800"}, "INVALID_PARAMETERS"),
    ({"note": "no parameter of this job type"}, "INVALID_PARAMETERS"),
    (_DEEP, "INVALID_REQUEST"),
)


class Poison(Submitter):
    """Submits what can only fail, and follows it to the failure that it has to be."""

    abstract = False
    weight = 0  # not part of an ordinary crowd: each of its jobs is a failure in the stage's metrics
    kind = "poison"

    def act(self, arrival: Arrival, intended_at: float) -> None:
        """Submit one job that fails, and follow it beside."""
        refused, code = _REFUSED_LATER[arrival.ordinal % len(_REFUSED_LATER)]
        self.submit_and_follow(arrival, intended_at, {"clientToken": new_token(), "parameters": refused}, code)
