"""An SQS integration may do what its role may do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from stage.conformance import apis

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine


@pytest.mark.parametrize("action", ["sqs:SendMessage", "sqs:*"])
def test_a_granted_action_passes(engine: Engine, action: str) -> None:
    # given a role with the grant, when a job is posted, then it is queued
    queue = apis.new_queue(engine)
    api = apis.deploy(engine, apis.to_queue(queue), extra=apis.sender(queue, action))
    assert api.post("{}").status_code == 202
    assert len(apis.received(engine, queue)) == 1


@pytest.mark.parametrize("action", ["sqs:ReceiveMessage", "s3:*"])
def test_a_missing_grant_answers_through_the_default_response(engine: Engine, action: str) -> None:
    # given a role with another grant, when a job is posted
    queue = apis.new_queue(engine)
    answer = apis.deploy(engine, apis.to_queue(queue), extra=apis.sender(queue, action)).post("{}")

    # then SQS denies it, the default response answers, and nothing is queued
    assert (answer.status_code, answer.json()) == (500, {"code": "AccessDenied"})
    assert apis.received(engine, queue) == []


def test_a_grant_on_another_queue_does_not_count(engine: Engine) -> None:
    # given a role that may send to another queue, when a job is posted, then it is denied
    queue = apis.new_queue(engine)
    extra = apis.sender(queue + "-other")
    assert apis.deploy(engine, apis.to_queue(queue), extra=extra).post("{}").status_code == 500


def test_the_status_of_a_denial_is_403(engine: Engine) -> None:
    # given a response for 403, when the role lacks the grant, then that response answers
    queue = apis.new_queue(engine)
    integration = apis.to_queue(queue)
    integration["IntegrationResponses"].append({"StatusCode": "503", "SelectionPattern": "403"})
    extra = apis.sender(queue, "sqs:ReceiveMessage")
    assert apis.deploy(engine, integration, extra=extra).post("{}").status_code == 503


def test_a_role_that_does_not_trust_the_gateway_is_a_configuration_error(engine: Engine) -> None:
    # given a role for another service, when a job is posted
    queue = apis.new_queue(engine)
    answer = apis.deploy(engine, apis.to_queue(queue), extra=apis.sender(queue, service="lambda")).post("{}")

    # then the gateway fails by itself
    assert (answer.status_code, answer.json()) == (500, {"message": "Internal server error"})
