"""A failed deployment ends in a few lines: what was said of it, and what to do now."""

from __future__ import annotations

import pytest
from sluice_harness.cdk_cli import explain

FAILED = "❌  sluice-ann-ingestion failed: ToolkitError: The stack named sluice-ann-ingestion failed creation"
TRACE = "    at async Object.deployStack (/somewhere/cli.js:1:2345)\n    at process.failed (/somewhere/cli.js:6:7)"


@pytest.mark.parametrize(
    ("said", "step"),
    [
        ('Resource handler returned message: "Limit Exceeded ... LimitExceededException"', "a quota is used up"),
        ("TooManyBuckets: You have attempted to create more buckets than allowed", "a quota is used up"),
        ("User: arn:x is not authorized to perform: iam:CreateRole", "the credentials lack this permission"),
        ("One or more alarms have been activated according to the Amazon CloudWatch metrics", "docs/releasing.md"),
        ("ExpiredToken: The security token included in the request is expired", "sign in again"),
        (
            "This CDK deployment requires bootstrap stack version '6'. Has this been bootstrapped?",
            "--bootstrap",
        ),
        (
            "ValidationError: Template format error: Unresolved resource dependencies [Nothing]",
            "mend packages/infra",
        ),
        (
            "The stack is in DELETE_FAILED (The following resource(s) failed to delete: [EcsTasksCluster4A5C]).",
            "run the same command again",
        ),
    ],
)
def test_the_step_follows_from_what_was_said(said: str, step: str) -> None:
    # given the many lines of a failure
    told = explain(f"synthesized\n{FAILED}: {said}\n{TRACE}\n{FAILED}: {said}")

    # then it is said once, without the trace, and the step comes last
    *lines, last = told.splitlines()
    assert lines == [f"{FAILED}: {said}"]
    assert last.startswith("  next: ")
    assert step in last


def test_the_names_of_what_is_deployed_are_not_taken_for_a_reason() -> None:
    # given events of gateway responses that are named after errors, and of what was broken off, around the failure
    event = "sluice-ann-ingestion |  9/99 | 10:00:00 AM | {} | AWS::{} | {}"
    cause = event.format(
        "CREATE_FAILED",
        "Lambda::Function",
        'Processor/Function (P1) Resource handler returned message: "Limit Exceeded (Service: Lambda)"',
    )
    events = [
        event.format("CREATE_IN_PROGRESS", "ApiGateway::GatewayResponse", "Api/RestApi/AccessDenied (A1)"),
        cause,
        event.format("CREATE_FAILED", "SQS::Queue", "Work/Queue (W1) Resource creation cancelled"),
        event.format("DELETE_COMPLETE", "ApiGateway::GatewayResponse", "Api/RestApi/IntegrationFailure (I1)"),
        event.format("ROLLBACK_IN_PROGRESS", "CloudFormation::Stack", "sluice-ann-ingestion The following failed"),
    ]

    # when they are explained, then the failure alone is told, and its step
    *lines, last = explain("\n".join(events)).splitlines()
    assert lines == [cause]
    assert "a quota is used up" in last


def test_what_nobody_has_foreseen_is_told_as_it_is() -> None:
    assert explain("the sky is down") == "the sky is down"


def test_an_error_in_the_stages_file_is_told_with_its_line() -> None:
    # given the many lines of a misspelt setting's trace
    said = """cdk synth ended with 1:
Traceback (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main
  File "/somewhere/packages/infra/src/sluice_infra/app.py", line 16, in <module>
    from sluice_infra.stages import StageConfig, stage_config
  File "/somewhere/packages/infra/src/sluice_infra/stages.py", line 301, in <module>
    "ann": replace(_DEV, name="ann", resultdays=1),
  File "/usr/lib/python3.13/dataclasses.py", line 1632, in replace
    return _replace(obj, **changes)
TypeError: StageConfig.__init__() got an unexpected keyword argument 'resultdays'
python -m sluice_infra.app: Subprocess exited with error 1
"""
    assert explain(said) == (
        "TypeError: StageConfig.__init__() got an unexpected keyword argument 'resultdays' "
        "(packages/infra/src/sluice_infra/stages.py, line 301)"
    )
