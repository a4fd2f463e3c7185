"""State machines for the conformance tests of Step Functions, and a queue that is told of their executions."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stage.conformance import containers
from stage.conformance.functions import create_function, create_queue, eventually, log_lines, unique

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

STEP = """
import time
class Refused(Exception):
    pass
def handler(event, context):
    print("step", event.get("step"))
    time.sleep(event.get("sleep", 0))
    if event.get("raise"):
        raise Refused("not this one")
    return {"step": event.get("step")}
"""


def task(function: str, following: str = "", **fields: Any) -> dict[str, Any]:
    return {
        "Type": "Task",
        "Resource": function,
        **({"Next": following} if following else {"End": True}),
        **fields,
    }


@dataclass
class Machines:
    """State machines whose role may invoke one function, and what their executions have told so far."""

    engine: Engine
    function: str
    role: str
    queue: str
    _told: list[dict[str, Any]] = field(default_factory=list)

    def machine(self, states: dict[str, Any], **fields: Any) -> str:
        definition = json.dumps({"StartAt": next(iter(states)), "States": states, **fields})
        made = self.client.create_state_machine(name=unique("machine"), definition=definition, roleArn=self.role)
        return str(made["stateMachineArn"])

    @property
    def client(self) -> Any:
        return self.engine.client("stepfunctions")

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.split(":")[6]

    def start(self, machine: str, data: Any = None, **request: Any) -> str:
        text = json.dumps({} if data is None else data)
        return str(self.client.start_execution(stateMachineArn=machine, input=text, **request)["executionArn"])

    def ended(self, execution: str, within: float = 10) -> Any:
        """Wait for an execution's end and return what the service says of it."""
        eventually(lambda: self._look(execution)["status"] != "RUNNING", within)
        return self._look(execution)

    def _look(self, execution: str) -> Any:
        return self.client.describe_execution(executionArn=execution)

    def events(self, execution: str, *states: str) -> list[Any]:
        """Wait until these states of an execution were told, and return the details of all that were."""
        eventually(lambda: set(states) <= {detail["status"] for detail in self._about(execution)})
        return self._about(execution)

    def _about(self, execution: str) -> list[Any]:
        sqs = self.engine.client("sqs")
        for message in sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages", []):
            self._told.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        return [event["detail"] for event in self._told if event["resources"] == [execution]]

    def steps(self, step: str) -> int:
        """Return how often the function was invoked for a step."""
        return log_lines(self.engine, f"/aws/lambda/{self.name}").count(f"step {step}")

    def allow(self, *statements: tuple[Any, Any]) -> None:
        """Let the role do this and nothing else."""
        document = json.dumps(containers.policy(*statements))
        name = self.role.rpartition("/")[2]
        self.engine.client("iam").put_role_policy(RoleName=name, PolicyName="one", PolicyDocument=document)

    def allow_as_ever(self) -> None:
        """Let the role invoke the function through its alias."""
        self.allow(("lambda:InvokeFunction", self.function))


def create(engine: Engine) -> Machines:
    """Make a function behind an alias, a role that may invoke it, and a rule for what executions tell."""
    function = create_function(engine, STEP, Timeout=20, TracingConfig={"Mode": "Active"})
    client = engine.client("lambda")
    version = client.publish_version(FunctionName=function)["Version"]
    alias = client.create_alias(FunctionName=function, Name="live", FunctionVersion=version)["AliasArn"]
    trust = json.dumps(containers.policy(("sts:AssumeRole", None), Service="states.amazonaws.com"))
    role = engine.client("iam").create_role(RoleName=unique("role"), AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    url, arn = create_queue(engine)
    events, rule = engine.client("events"), unique("rule")
    pattern = json.dumps({"source": ["aws.states"], "detail-type": ["Step Functions Execution Status Change"]})
    source = events.put_rule(Name=rule, EventPattern=pattern)["RuleArn"]
    told = containers.policy(("sqs:SendMessage", arn), Service="events.amazonaws.com")
    told["Statement"][0]["Condition"] = {"ArnEquals": {"aws:SourceArn": source}}
    engine.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(told)})
    events.put_targets(Rule=rule, Targets=[{"Id": "queue", "Arn": arn}])
    made = Machines(engine, alias, role, url)
    made.allow_as_ever()
    return made
