"""What the stacks tell the tools: everything that ``build/stages/<stage>.json`` holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sluice_harness.description import from_outputs

if TYPE_CHECKING:
    from infra.assemblies import Assembly

pytestmark = pytest.mark.xdist_group("infra")


def test_a_stage_can_be_described_from_its_outputs(assembly: Assembly) -> None:
    # given the stacks' outputs by name, as `cdk deploy` reports them
    outputs = {name: f"value of {name}" for name in assembly.outputs}

    # when they are made into the file that every tool reads
    place = {"region": "us-east-1", "account": "000000000000", "endpointUrl": None}
    description = from_outputs(outputs, [], stage=assembly.stage, apiUrl=outputs["ApiUrl"], **place)

    # then each queue and function is another output
    queues = description.queues
    assert len({queues.request.url, queues.request.dlqUrl, queues.work.url, queues.work.dlqUrl}) == 4
    assert "ApiId" in outputs
    # and so is each dashboard
    assert len(set(description.dashboards)) == 3


def test_queue_outputs_name_a_queue_and_its_own_dead_letter_queue(assembly: Assembly) -> None:
    queues = assembly.of_type("SQS::Queue")
    for kind in ("Request", "Work"):
        url, dlq_url = (assembly.outputs[f"{kind}{end}"] for end in ("QueueUrl", "DlqUrl"))
        target = queues[url["Ref"]]["RedrivePolicy"]["deadLetterTargetArn"]
        assert target == {"Fn::GetAtt": [dlq_url["Ref"], "Arn"]}


def test_function_outputs_name_the_function_of_that_handler(assembly: Assembly) -> None:
    functions = assembly.of_type("Lambda::Function")
    for output, module in {
        "AuthorizerFunction": "authorizer",
        "ProcessorFunction": "processor",
        "BatchSimulatorFunction": "batch_simulator",
        "JobStatusFunction": "job_status",
    }.items():
        assert functions[assembly.outputs[output]["Ref"]]["Handler"] == f"sluice_handlers.{module}.handler"
