"""Jobs in Step Functions: a state machine that fetches, transforms and stores, each step a Lambda invocation.

A worked example of a job of several steps. What a step does is `sluice_handlers.workflow_step`; what follows what,
what is tried again, and what is given up is here, in the Amazon States Language.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct
from sluice_core.executors import MAX_STARTS, STEP_TIMED_OUT, WORK_REFUSED

from sluice_infra.acknowledgements import acknowledge, as_found
from sluice_infra.functions import Function, log_group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_infra.stages import StageConfig
    from sluice_infra.storage import Storage

# Which job it is, and which start of it: all that an execution is given.
_JOB = ("owner", "jobId", "startToken")
# As often, and as far apart, as a message of the work queue is tried.
_RETRY = [
    # What would fail the next time, too, and cost as much.
    {"ErrorEquals": [WORK_REFUSED, STEP_TIMED_OUT], "MaxAttempts": 0},
    {
        "ErrorEquals": ["States.TaskFailed"],
        "IntervalSeconds": 4,
        "BackoffRate": 2,
        "MaxDelaySeconds": 300,
        "JitterStrategy": "FULL",
        "MaxAttempts": MAX_STARTS - 1,
    },
]
_CATCH = [{"ErrorEquals": [WORK_REFUSED], "ResultPath": "$.error", "Next": "Refused"}]
# Of Step Functions itself, to log and to trace: none takes a resource (Service Authorization Reference).
_LOGGING = (
    *("CreateLogDelivery", "DeleteLogDelivery", "GetLogDelivery", "ListLogDeliveries", "UpdateLogDelivery"),
    *("DescribeLogGroups", "DescribeResourcePolicies", "PutResourcePolicy"),
)
_TRACING = ("GetSamplingRules", "GetSamplingTargets", "PutTelemetryRecords", "PutTraceSegments")


def definition(step: str, timeout_s: int) -> dict[str, Any]:
    """Return the workflow in the Amazon States Language.

    Parameters
    ----------
    step : str
        The ARN of the function that does each step.
    timeout_s : int
        How long an execution may take.

    """
    return {
        "Comment": "A job of several steps: fetch its input, transform it, store the result",
        "TimeoutSeconds": timeout_s,
        "StartAt": "Fetch",
        "States": {
            # Claims the job, which may have been cancelled since it was started.
            "Fetch": _task(step, "fetch", {"ResultPath": "$.fetched", "Next": "IsWanted"}),
            "IsWanted": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.fetched.wanted", "BooleanEquals": True, "Next": "Transform"}],
                "Default": "NotWanted",
            },
            "Transform": _task(step, "transform", {"ResultPath": "$.transformed", "Next": "Store"}),
            # Its answer is the execution's output: where the result is.
            "Store": _task(step, "store", {"End": True}, **{"transformed.$": "$.transformed"}),
            "NotWanted": {"Type": "Succeed"},
            "Refused": {"Type": "Fail", "ErrorPath": "$.error.Error", "CausePath": "$.error.Cause"},
        },
    }


def _task(function: str, step: str, then: Mapping[str, Any], **inputs: str) -> dict[str, Any]:
    of_job = {f"{name}.$": f"$.{name}" for name in _JOB}
    return {
        "Type": "Task",
        "Resource": function,
        "Parameters": {"step": step, **of_job, **inputs},
        "Retry": _RETRY,
        "Catch": _CATCH,
        **then,
    }


class Workflow(Construct):
    """The ``stepfunctions`` executor: the state machine, and the role that it works by.

    Attributes
    ----------
    settings : mapping of str to str
        What functions have to know to start, stop and look at its executions.
    ends : mapping
        The pattern of the events that say that one is over.
    outputs : mapping of str to str
        What the stack tells tools of it.

    """

    def __init__(self, scope: Construct, name: str, config: StageConfig, *, step: Function) -> None:
        super().__init__(scope, name)
        timeout_s = config.stepfunctions.timeout_s
        # A name for which CloudWatch Logs keeps no resource policy per group (AWS Step Functions, "Logging").
        logs = log_group(self, "Logs", config, name=f"/aws/vendedlogs/states/sluice-{config.name}-workflow")
        role = self._add_role(step)
        machine = sfn.CfnStateMachine(
            self,
            "StateMachine",
            role_arn=role.role_arn,
            state_machine_type="STANDARD",
            definition_string=cdk.Stack.of(self).to_json_string(definition(step.live.function_arn, timeout_s)),
            # What fails, without what it was given or gave: payloads are never logged.
            logging_configuration=sfn.CfnStateMachine.LoggingConfigurationProperty(
                level="ERROR",
                include_execution_data=False,
                destinations=[
                    sfn.CfnStateMachine.LogDestinationProperty(
                        cloud_watch_logs_log_group=sfn.CfnStateMachine.CloudWatchLogsLogGroupProperty(
                            log_group_arn=logs.log_group_arn
                        )
                    )
                ],
            ),
            tracing_configuration=sfn.CfnStateMachine.TracingConfigurationProperty(enabled=True),
        )
        machine.node.add_dependency(role)  # and what it allows, which is checked when the machine is made
        acknowledge(
            machine,
            {"AwsSolutions-SF1": "each job has its line already, and its history is kept by Step Functions"},
        )
        self._executions = cdk.Stack.of(self).format_arn(
            service="states",
            resource="execution",
            resource_name=f"{machine.attr_name}:*",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
        self._machine = machine.attr_arn
        self.settings = {
            "STATE_MACHINE_ARN": machine.attr_arn,
            "STEPFUNCTIONS_MAX_RUNNING": str(config.stepfunctions.max_running),
            "STEPFUNCTIONS_TIMEOUT_SECONDS": str(timeout_s),
        }
        self.ends = {
            "source": ["aws.states"],
            "detail-type": ["Step Functions Execution Status Change"],
            "detail": {
                "stateMachineArn": [machine.attr_arn],
                "status": ["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"],
            },
        }
        self.outputs = {"StateMachineArn": machine.attr_arn}

    def _add_role(self, step: Function) -> iam.Role:
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal(
                "states.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}}
            ),
        )
        for actions, resource in (
            (["lambda:InvokeFunction"], step.live.function_arn),
            ([f"logs:{action}" for action in _LOGGING], "*"),
            ([f"xray:{action}" for action in _TRACING], "*"),
        ):
            role.add_to_policy(iam.PolicyStatement(actions=actions, resources=[resource]))
        acknowledge(
            role,
            {"AwsSolutions-IAM5[Resource::*]": "log deliveries and X-Ray's actions take no resource"},
        )
        return role

    def let_start(self, function: Function) -> None:
        """Let a function start executions."""
        function.allow(["states:StartExecution"], [self._machine])

    def let_stop(self, function: Function) -> None:
        """Let a function stop executions."""
        self._on_executions(function, "states:StopExecution")

    def let_look(self, function: Function) -> None:
        """Let a function see how executions stand."""
        self._on_executions(function, "states:DescribeExecution")

    def _on_executions(self, function: Function, action: str) -> None:
        function.allow([action], [self._executions])
        acknowledge(
            function.role,
            {
                f"AwsSolutions-IAM5[Resource::{as_found(self, self._executions)}]": "executions of this one state "
                "machine, which are named as jobs are started"
            },
        )


def add_step(scope: Construct, config: StageConfig, storage: Storage, settings: Mapping[str, str]) -> Function:
    """Add the function that does each step of a workflow."""
    step = Function(
        scope,
        "workflow-step",
        config,
        memory_mib=config.work_memory_mib,
        environment={
            **settings,
            "WORKLOADS": config.workloads,
            "WORKFLOW_TIMEOUT_SECONDS": str(config.stepfunctions.timeout_s),
        },
    )
    step.allow(["dynamodb:PartiQLUpdate", "dynamodb:GetItem"], [storage.table.table_arn])
    storage.allow_objects(step.role, "inputs", "s3:GetObject")
    storage.allow_objects(step.role, "staged", "s3:GetObject", "s3:PutObject", "s3:DeleteObject")
    storage.allow_objects(step.role, "results", "s3:PutObject", "s3:DeleteObject")
    return step
