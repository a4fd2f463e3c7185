"""The process in which a handler and the bare calls are measured in turn; run by `sluice_harness.bench.warm`.

Run as a file by a Python that sees the standard library and the shipped code only: it imports nothing of the
harness. A plan comes on standard input and the figures go to the plan's file, for handlers print their logs.

A pair is one event for the handler and then the very calls of AWS that the handler made for it, repeated on plain
clients with the handler's own settings; job ids are changed, at the same length, so that each write is as
new as the handler's was. CPU is the whole process's, threads and system time included.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

Call = tuple[str, str, Any, dict[str, Any]]
_NS_PER_MS = 1_000_000
_TICK_MS = 10.0


class Context:
    """What handlers ask of Lambda's context."""

    aws_request_id = "bench"
    function_name = "bench"

    def get_remaining_time_in_millis(self) -> int:
        """Return the time that is left, in ms: enough."""
        return 60_000


class Recorder:
    """Notes the calls that go through botocore's clients: service, operation, client settings, parameters."""

    def __init__(self) -> None:
        from botocore.client import BaseClient  # noqa: PLC0415 - of the shipped code

        self.calls: list[Call] = []
        self._is_on = False
        base: Any = BaseClient
        make = base._make_api_call

        def make_and_note(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
            if self._is_on:
                meta = client.meta
                self.calls.append((meta.service_model.service_name, operation, meta.config, parameters))
            return make(client, operation, parameters)

        base._make_api_call = make_and_note

    def start(self) -> None:
        """Forget what was noted and note what follows."""
        self.calls = []
        self._is_on = True

    def stop(self) -> list[Call]:
        """Note no more and return what was noted."""
        self._is_on = False
        return self.calls


class BareClients:
    """Plain clients with the settings of the handler's, made once each."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def method(self, call: Call) -> Any:
        """Return the method that makes this call."""
        import botocore.session  # noqa: PLC0415 - of the shipped code
        from botocore import xform_name  # noqa: PLC0415

        service, operation, config, _ = call
        if service not in self._made:
            session: Any = botocore.session.get_session()
            self._made[service] = session.create_client(service, config=config)
        return getattr(self._made[service], xform_name(operation))


def main() -> None:
    """Carry out a plan."""
    plan = json.loads(sys.stdin.read())
    module = importlib.import_module(plan["module"])
    figures = (_authorizations if plan["kind"] == "authorizer" else _pairs)(module, plan)
    Path(plan["figures"]).write_text(json.dumps(figures))


def _pairs(module: Any, plan: dict[str, Any]) -> dict[str, Any]:
    recorder, clients, context = Recorder(), BareClients(), Context()
    pairs = []
    for event in plan["events"]:
        recorder.start()
        handler = _measured(plan["engine"], lambda event=event: module.handler(event["event"], context))
        calls = recorder.stop()
        _check(plan["kind"], handler.pop("result"))
        bare_calls = [_changed(call, event["jobIds"]) for call in calls]
        # Bound before the clock runs: making a client is part of a start, not of a job.
        bound = [(clients.method(call), call[3]) for call in bare_calls]
        bare = _measured(plan["engine"], lambda bound=bound: [method(**given) for method, given in bound])
        del bare["result"]
        pairs.append({"handler": handler, "bare": bare, "calls": [f"{call[0]} {call[1]}" for call in calls]})
    return {"pairs": pairs, "workloadMs": _workload_ms(plan)}


def _workload_ms(plan: dict[str, Any]) -> list[float]:
    """Return the CPU of the jobs' own work, once more and alone, by batch; nothing where no work is done."""
    from sluice_core.workloads import load_workloads  # noqa: PLC0415 - of the shipped code

    if plan["kind"] != "work":
        return []
    workloads, stop = load_workloads(os.environ["WORKLOADS"]), threading.Event()
    figures = []
    for event in plan["events"]:
        bodies = [json.loads(record["body"]) for record in event["event"]["Records"]]

        def work(bodies: list[dict[str, Any]] = bodies) -> None:
            for body in bodies:
                workloads[body["jobType"]].run(body["jobId"], body["parameters"], stop)

        figures.append(_measured(0, work)["cpuMs"])
    return figures


def _authorizations(module: Any, plan: dict[str, Any]) -> dict[str, Any]:
    pairs = []
    try:
        import jwt  # noqa: PLC0415 - of the shipped code, if it is in there
    except ImportError:
        sys.path.append(plan["otherPackages"])
        import jwt  # noqa: PLC0415
    keys = {one["kid"]: jwt.PyJWK(one) for one in plan["keys"]}

    def verify(token: str) -> Any:
        key = keys[jwt.get_unverified_header(token)["kid"]]
        return jwt.decode(token, key, algorithms=["RS256"], audience=plan["audience"], issuer=plan["issuer"])

    for token in plan["tokens"]:
        event = {"type": "TOKEN", "authorizationToken": token, "methodArn": plan["methodArn"]}
        handler = _measured(0, lambda event=event: module.handler(event, Context()))
        answer = handler.pop("result")
        if answer["policyDocument"]["Statement"][0]["Effect"] != "Allow":
            raise SystemExit(f"the authorizer did not allow: {answer}")
        bare = _measured(0, lambda token=token: verify(token))
        del bare["result"]
        pairs.append({"handler": handler, "bare": bare, "calls": []})
    return {"pairs": pairs, "workloadMs": []}


def _measured(engine: int, run: Any) -> dict[str, Any]:
    """Run something, and return its result and the CPU of this process and of the engine meanwhile, in ms."""
    engine_before = _engine_ms(engine)
    before = time.process_time_ns()
    result = run()
    cpu_ms = (time.process_time_ns() - before) / _NS_PER_MS
    return {"result": result, "cpuMs": cpu_ms, "engineMs": _engine_ms(engine) - engine_before}


def _engine_ms(engine: int) -> float:
    if not engine:
        return 0.0
    fields = Path(f"/proc/{engine}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_MS


def _check(kind: str, answer: Any) -> None:
    if kind == "status":
        if answer["statusCode"] != 200:  # noqa: PLR2004 - OK
            raise SystemExit(f"a read was answered with {answer}")
    elif answer["batchItemFailures"]:
        raise SystemExit(f"jobs of the batch failed: {answer}")


def _changed(call: Call, job_ids: list[str]) -> Call:
    """Return the same call of other jobs: their ids as long as these, from a time that is not yet."""
    service, operation, config, parameters = call
    text = {job_id: f"2{job_id[1:]}" for job_id in job_ids}
    return service, operation, config, _replaced(copy.deepcopy(parameters), text)


def _replaced(value: Any, text: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(one, text) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(one, text) for one in value]
    if isinstance(value, str):
        for old, new in text.items():
            value = value.replace(old, new)
    return value


if __name__ == "__main__":
    main()
