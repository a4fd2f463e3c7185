"""What a drill breaks and mends, as an operator or an accident would: through AWS's own APIs.

What no API can break, the table's and other services' own failures, is broken by the engine's faults.
"""

from __future__ import annotations

import json
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

import httpx
from sluice_core.slots import Slots, new_token

from sluice_harness import live_functions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sluice_harness.description import StageDescription
    from sluice_harness.drill.load import Load
    from sluice_harness.local_stage import LocalStage

# A message that a crashed function held comes back after this, and not after three or six minutes.
VISIBILITY_S = 15
_TIMEOUT_S = 60
# Takes no event for its argument. It fails within the invocation: a handler that cannot be loaded fails as surely,
# but each time in a new process, whose start at a stage's speed takes minutes.
_FAILING = "json.loads"


class Site:
    """A stage under drill."""

    def __init__(self, stage: LocalStage, description: StageDescription, load: Load) -> None:
        self.stage = stage
        self.description = description
        self.load = load
        self.functions = description.functions.by_handler()
        self._handlers: dict[str, str] = {}
        self._queue: dict[str, str] = {}
        self._definition = ""
        self._policy = ""

    @cached_property
    def lambda_(self) -> Any:
        """A client of Lambda."""
        return self.stage.client("lambda")

    @cached_property
    def sqs(self) -> Any:
        """A client of SQS."""
        return self.stage.client("sqs")

    @cached_property
    def events(self) -> Any:
        """A client of EventBridge."""
        return self.stage.client("events")

    @cached_property
    def stepfunctions(self) -> Any:
        """A client of Step Functions."""
        return self.stage.client("stepfunctions")

    @property
    def minute_s(self) -> float:
        """How long a minute of the stage's takes, in seconds."""
        return self.description.clock.real_seconds(60)

    def prepare(self) -> None:
        """Lower the queues' visibility timeouts: the template's are longer than a drill."""
        for queue in self.description.queues.by_name().values():
            attributes = {"VisibilityTimeout": str(VISIBILITY_S)}
            self.sqs.set_queue_attributes(QueueUrl=queue.url, Attributes=attributes)

    def break_handlers(self, functions: Iterable[str]) -> None:
        """Deploy a handler that fails at once, whatever it is asked."""
        for name in functions:
            physical = self.functions[name]
            serving = self.lambda_.get_function_configuration(FunctionName=live_functions.live(physical))
            self._handlers[name] = serving["Handler"]
            live_functions.release(self.lambda_, physical, Handler=_FAILING)

    def mend_handlers(self, functions: Iterable[str]) -> None:
        """Deploy the handlers that were there."""
        for name in functions:
            live_functions.release(self.lambda_, self.functions[name], Handler=self._handlers.pop(name))

    def throttle(self, functions: Iterable[str]) -> None:
        """Reserve no concurrency, so that Lambda runs none of them."""
        for name in functions:
            self.lambda_.put_function_concurrency(
                FunctionName=self.functions[name], ReservedConcurrentExecutions=0
            )

    def unthrottle(self, functions: Iterable[str]) -> None:
        """Reserve nothing again."""
        for name in functions:
            self.lambda_.delete_function_concurrency(FunctionName=self.functions[name])

    def set_consumers(self, *functions: str, enabled: bool) -> None:
        """Stop or start the event-source mappings of functions."""
        for name in functions:
            for mapping in live_functions.mappings(self.lambda_, self.functions[name]):
                self.lambda_.update_event_source_mapping(UUID=mapping, Enabled=enabled)

    def set_schedule(self, function: str, *, enabled: bool) -> None:
        """Stop or start a function's schedule."""
        live = live_functions.live(self.functions[function])
        target = self.lambda_.get_function_configuration(FunctionName=live)["FunctionArn"]
        for name in self.events.list_rule_names_by_target(TargetArn=target)["RuleNames"]:
            (self.events.enable_rule if enabled else self.events.disable_rule)(Name=name)

    def fault(self, *rules: dict[str, Any]) -> None:
        """Let AWS's services fail, or functions be slow, by these rules alone; without any, no longer."""
        url = f"{self.description.endpointUrl}/_sluice/faults"
        httpx.put(url, json=list(rules), timeout=_TIMEOUT_S).raise_for_status()

    def slow(self, **seconds: float) -> None:
        """Make invocations last longer: ``slow(batch_simulator=6)``."""
        delays = {self.functions[name.replace("_", "-")]: delay for name, delay in seconds.items()}
        self.fault(*({"function": function, "delay_s": delay} for function, delay in delays.items()))

    def poison(self, count: int, *queues: str) -> None:
        """Put messages on queues that nobody here wrote."""
        for name in queues:
            url = self.description.queues.by_name()[name].url
            for start in range(0, count, 10):
                entries = [{"Id": str(n), "MessageBody": "poison"} for n in range(start, min(start + 10, count))]
                self.sqs.send_message_batch(QueueUrl=url, Entries=entries)

    def empty(self, *queues: str) -> None:
        """Delete all messages of queues, which on a stage that is not thrown away nobody does."""
        for name in queues:
            self.sqs.purge_queue(QueueUrl=self.description.queues.by_name()[name].url)

    def empty_dead_letters(self) -> None:
        """Delete all dead letters, as an operator does who has looked at them."""
        for queue in self.description.queues.by_name().values():
            self.sqs.purge_queue(QueueUrl=queue.dlqUrl)

    def delete_request_queue(self) -> None:
        """Delete the queue that the API sends to."""
        url = self.description.queues.request.url
        self._queue = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        self.sqs.delete_queue(QueueUrl=url)

    def restore_request_queue(self) -> None:
        """Make it again as it was."""
        kept = {"VisibilityTimeout", "MessageRetentionPeriod", "RedrivePolicy", "Policy", "SqsManagedSseEnabled"}
        attributes = {name: value for name, value in self._queue.items() if name in kept}
        name = self._queue["QueueArn"].rpartition(":")[2]
        self.sqs.create_queue(QueueName=name, Attributes=attributes)

    def slots_taken(self, executor: str) -> int:
        """Return how many slots of an executor are taken."""
        slots = Slots(self.stage.client("dynamodb"), self.description.executors.slotsTable)
        return len(slots.held(executor))

    def run_foreign_workflow(self) -> None:
        """Start an execution on our state machine that is of no job, in the form of one that is."""
        token = new_token(time.time_ns() // 1_000_000)
        job = json.dumps({"owner": "somebody", "jobId": "of-no-job", "startToken": token})
        machine = self.description.executors.stateMachine
        self.stepfunctions.start_execution(stateMachineArn=machine, name=token, input=job)

    def break_workflow(self) -> None:
        """Deploy a state machine whose executions fail at once."""
        machine = self.description.executors.stateMachine
        self._definition = self.stepfunctions.describe_state_machine(stateMachineArn=machine)["definition"]
        broken = {"StartAt": "Broken", "States": {"Broken": {"Type": "Fail", "Error": "Broken"}}}
        self.stepfunctions.update_state_machine(stateMachineArn=machine, definition=json.dumps(broken))

    def mend_workflow(self) -> None:
        """Deploy the state machine that was there."""
        machine = self.description.executors.stateMachine
        self.stepfunctions.update_state_machine(stateMachineArn=machine, definition=self._definition)

    def refuse_completions(self) -> None:
        """Take away the policy that lets EventBridge put events on the queue of completions."""
        url = self.description.queues.by_name()["completion"].url
        self._policy = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"][
            "Policy"
        ]
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})

    def take_completions(self) -> None:
        """Give it back."""
        url = self.description.queues.by_name()["completion"].url
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": self._policy})


def dynamodb_fault(code: str, status: int) -> dict[str, Any]:
    """Return the rule by which every call of the table fails so."""
    return {"service": "dynamodb", "actions": None, "error": {"status": status, "code": code}, "share": 1.0}
