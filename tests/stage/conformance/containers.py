"""A small stack for the conformance tests of ECS and Batch: a network, a definition of each, and their events."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stage.conformance.functions import eventually, log_lines, unique

if TYPE_CHECKING:
    from collections.abc import Callable

    from stage.conformance.conftest import Engine

# Each container runs what its environment says.
COMMAND = ["python", "-c", "import os; exec(os.environ['CODE'])"]
STOP_TIMEOUT = 2
VCPUS = 2


def arn(name: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [name, "Arn"]}


def policy(*statements: tuple[Any, Any], **principal: str) -> dict[str, Any]:
    """A policy document that allows each of these actions on each of these resources."""
    extra = {"Principal": principal} if principal else {}
    allowed = [
        {"Effect": "Allow", "Action": action, **({"Resource": resource} if resource else {}), **extra}
        for action, resource in statements
    ]
    return {"Version": "2012-10-17", "Statement": allowed}


def role(service: str, *statements: tuple[Any, Any]) -> tuple[str, dict[str, Any]]:
    trust = policy(("sts:AssumeRole", None), Service=f"{service}.amazonaws.com")
    inline = [{"PolicyName": "one", "PolicyDocument": policy(*statements)}] if statements else []
    return "IAM::Role", {"AssumeRolePolicyDocument": trust, "Policies": inline}


def template() -> dict[str, Any]:
    log = {"LogDriver": "awslogs", "Options": {"awslogs-group": {"Ref": "Logs"}, "awslogs-stream-prefix": "job"}}
    container = {
        "Image": "job",
        "Command": COMMAND,
        "Environment": [{"Name": "FROM", "Value": "definition"}, {"Name": "KEPT", "Value": "yes"}],
        "LogConfiguration": log,
    }
    sizes = [{"Type": "VCPU", "Value": "1"}, {"Type": "MEMORY", "Value": "2048"}]
    details = {"aws.ecs": {"clusterArn": [arn("Cluster")]}, "aws.batch": {"jobQueue": [{"Ref": "JobQueue"}]}}
    rules = {
        f"{name}Rule": (
            "Events::Rule",
            {
                "EventPattern": {"source": [source], "detail": detail},
                "Targets": [{"Id": "Queue", "Arn": arn("Told")}],
            },
        )
        for name, (source, detail) in zip(("Ecs", "Batch"), details.items(), strict=True)
    }
    sources = {"ArnEquals": {"aws:SourceArn": [arn(name) for name in rules]}}
    told = policy(("sqs:SendMessage", arn("Told")), Service="events.amazonaws.com")
    told["Statement"][0]["Condition"] = sources
    secure = {"Bool": {"aws:SecureTransport": "false"}}
    deny = {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": arn("Told"), "Condition": secure}
    told["Statement"].append(deny)
    network = {"Subnets": [{"Ref": "Subnet"}], "SecurityGroupIds": [{"Ref": "Group"}]}
    properties: dict[str, tuple[str, dict[str, Any]]] = {
        "Vpc": ("EC2::VPC", {"CidrBlock": "10.0.0.0/16"}),
        "Subnet": ("EC2::Subnet", {"VpcId": {"Ref": "Vpc"}, "CidrBlock": "10.0.0.0/24"}),
        "Group": ("EC2::SecurityGroup", {"VpcId": {"Ref": "Vpc"}, "GroupDescription": "containers"}),
        "FlowLog": (
            "EC2::FlowLog",
            {
                "ResourceId": {"Ref": "Vpc"},
                "ResourceType": "VPC",
                "LogGroupName": {"Ref": "Logs"},
                "DeliverLogsPermissionArn": arn("TaskRole"),
            },
        ),
        "Way": (
            "EC2::SecurityGroupEgress",
            {
                "GroupId": {"Ref": "Group"},
                "IpProtocol": "tcp",
                "FromPort": 443,
                "ToPort": 443,
                "DestinationSecurityGroupId": {"Ref": "Group"},
            },
        ),
        "Logs": ("Logs::LogGroup", {}),
        "Told": ("SQS::Queue", {}),
        "Policy": ("SQS::QueuePolicy", {"Queues": [{"Ref": "Told"}], "PolicyDocument": told}),
        "TaskRole": role("ecs-tasks", ("sqs:GetQueueAttributes", arn("Told"))),
        "ExecutionRole": role("ecs-tasks", (["logs:CreateLogStream", "logs:PutLogEvents"], arn("Logs"))),
        "Cluster": ("ECS::Cluster", {"CapacityProviders": ["FARGATE"]}),
        "TaskDefinition": (
            "ECS::TaskDefinition",
            {
                "Family": unique("job"),
                "RequiresCompatibilities": ["FARGATE"],
                "NetworkMode": "awsvpc",
                "Cpu": "256",
                "Memory": "512",
                "TaskRoleArn": arn("TaskRole"),
                "ExecutionRoleArn": arn("ExecutionRole"),
                "ContainerDefinitions": [{"Name": "job", "StopTimeout": STOP_TIMEOUT, **container}],
            },
        ),
        "Environment": (
            "Batch::ComputeEnvironment",
            {"Type": "MANAGED", "ComputeResources": {"Type": "FARGATE", "MaxvCpus": VCPUS, **network}},
        ),
        "JobQueue": (
            "Batch::JobQueue",
            {
                "Priority": 1,
                "ComputeEnvironmentOrder": [{"Order": 1, "ComputeEnvironment": {"Ref": "Environment"}}],
            },
        ),
        "JobDefinition": (
            "Batch::JobDefinition",
            {
                "Type": "container",
                "PlatformCapabilities": ["FARGATE"],
                "RetryStrategy": {"Attempts": 1},
                "Timeout": {"AttemptDurationSeconds": 600},
                "ContainerProperties": {
                    **container,
                    "JobRoleArn": arn("TaskRole"),
                    "ExecutionRoleArn": arn("ExecutionRole"),
                    "ResourceRequirements": sizes,
                },
            },
        ),
        **rules,
    }
    return {
        "Resources": {
            name: {"Type": f"AWS::{kind}", "Properties": values} for name, (kind, values) in properties.items()
        },
        "Outputs": {name: {"Value": {"Ref": name}} for name in properties},
    }


@dataclass
class Site:
    """The stack, and what its services have told so far."""

    engine: Engine
    stack: str
    names: dict[str, str]
    _told: list[dict[str, Any]] = field(default_factory=list)

    def run(self, code: str, **request: Any) -> str:
        """Run a task of this code and return its ARN."""
        (task,) = self.try_to_run(code, **request)["tasks"]
        return str(task["taskArn"])

    def try_to_run(self, code: str, client: Any = None, **request: Any) -> Any:
        variables = [{"name": "CODE", "value": code}, {"name": "FROM", "value": "override"}]
        return (client or self.engine.client("ecs")).run_task(
            **{
                "cluster": self.names["Cluster"],
                "taskDefinition": self.names["TaskDefinition"],
                "launchType": "FARGATE",
                "networkConfiguration": {"awsvpcConfiguration": {"subnets": [self.names["Subnet"]]}},
                "overrides": {"containerOverrides": [{"name": "job", "environment": variables}]},
                **request,
            }
        )

    def task(self, task: str, cluster: str = "") -> Any:
        cluster = cluster or self.names["Cluster"]
        (found,) = self.engine.client("ecs").describe_tasks(cluster=cluster, tasks=[task])["tasks"]
        return found

    def submit(self, code: str, client: Any = None, **request: Any) -> str:
        """Submit a job of this code and return its id."""
        variables = [{"name": "CODE", "value": code}, {"name": "FROM", "value": "override"}]
        job = (client or self.engine.client("batch")).submit_job(
            **{
                "jobName": unique("job"),
                "jobQueue": self.names["JobQueue"],
                "jobDefinition": self.names["JobDefinition"],
                "containerOverrides": {"environment": variables},
                **request,
            }
        )
        return str(job["jobId"])

    def job(self, job: str) -> Any:
        (found,) = self.engine.client("batch").describe_jobs(jobs=[job])["jobs"]
        return found

    def definition_name(self) -> str:
        """Return the name of the job definition, without its revision."""
        return self.names["JobDefinition"].rpartition("/")[2].partition(":")[0]

    def becomes(self, look: Callable[[str], Any], one: str, *states: str) -> Any:
        """Wait until a task or a job is in one of these states, and return it as it is then."""
        eventually(lambda: status(look(one)) in states)
        found = look(one)
        assert status(found) in states, found
        return found

    def state_of(self, stack: str) -> str:
        """Return a stack's status, nothing if there is no such stack."""
        pages = self.engine.client("cloudformation").get_paginator("describe_stacks").paginate()
        stacks = {one["StackName"]: one["StackStatus"] for page in pages for one in page["Stacks"]}
        return str(stacks.get(stack, ""))

    def told(self, resource: str, number: int) -> list[dict[str, Any]]:
        """Wait for so many events about a task or a job, by its ARN, and return them."""
        eventually(lambda: self._receive() and len(self._about(resource)) >= number)
        return self._about(resource)

    def output(self, stream: str) -> list[str]:
        """Return what a container has printed."""
        logs = self.engine.client("logs")
        found = logs.filter_log_events(logGroupName=self.names["Logs"], logStreamNames=[stream])["events"]
        return [event["message"] for event in found]

    def lines(self) -> list[str]:
        return log_lines(self.engine, self.names["Logs"])

    def _receive(self) -> bool:
        sqs = self.engine.client("sqs")
        messages = sqs.receive_message(QueueUrl=self.names["Told"], MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            self._told.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=self.names["Told"], ReceiptHandle=message["ReceiptHandle"])
        return True

    def _about(self, resource: str) -> list[dict[str, Any]]:
        return [event for event in self._told if event["resources"] == [resource]]


def status(one: dict[str, Any]) -> str:
    """Return the state of a task or of a job."""
    return str(one.get("lastStatus") or one["status"])


def create(engine: Engine) -> Site:
    client, name = engine.client("cloudformation"), unique("stack")
    client.create_stack(StackName=name, TemplateBody=json.dumps(template()), Capabilities=["CAPABILITY_IAM"])
    eventually(lambda: "IN_PROGRESS" not in state_of(client, name)["StackStatus"])
    made = state_of(client, name)
    assert made["StackStatus"] == "CREATE_COMPLETE", client.describe_stack_events(StackName=name)["StackEvents"]
    return Site(engine, name, {output["OutputKey"]: output["OutputValue"] for output in made["Outputs"]})


def state_of(client: Any, name: str) -> Any:
    (found,) = client.describe_stacks(StackName=name)["Stacks"]
    return found
