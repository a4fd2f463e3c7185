"""What an alarm does when its state changes: its actions.

MiniStack publishes an alarm's notification to a topic without asking the topic's policy, and tells nobody when it
could not. CloudWatch publishes as the service ``cloudwatch.amazonaws.com``: the topic's policy has to let it, and
so has the policy of the key that encrypts the topic, which no AWS-managed key's does ("Notifying users on alarm
changes", "Encrypt messages published to Amazon SNS with AWS KMS"); what came of each action is an entry of the
alarm's history ("DescribeAlarmHistory"). Closed with the engine's SNS, KMS and Lambda.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy
from ministack.core.responses import get_account_id, get_region
from ministack.services import kms, lambda_svc, sns

from sluice_harness.cloudwatch import notifications
from sluice_harness.cloudwatch.definitions import CompositeAlarm
from sluice_harness.compat.monitoring import alarms
from sluice_harness.compat.patching import expect

if TYPE_CHECKING:
    from sluice_harness.cloudwatch.transitions import Transition

SERVICE = "cloudwatch.amazonaws.com"
_KEY_ACTIONS = ("kms:Decrypt", "kms:GenerateDataKey")


class ActionFailedError(Exception):
    """An action could not be taken; the message is the history's."""


def check_engine() -> None:
    """Check that the engine's parts are those that this module is written for."""
    expect(
        sns,
        "publish_internal",
        *("topic_arn", "message", "subject", "message_structure", "message_attributes"),
        *("message_group_id", "message_deduplication_id"),
    )
    expect(sns, "topic_policy_allows", "topic_arn", "service", "source_arn", "source_account")
    expect(sns, "_topic_by_arn_any_scope", "topic_arn")
    expect(kms, "_resolve_key", "key_id_or_arn")
    expect(lambda_svc, "invoke_async_with_retry", "func", "event")


def take(transition: Transition) -> None:
    """Take the actions of a transition, and note in the history what came of each."""
    place = notifications.Place(get_account_id(), get_region())
    kind = alarms.COMPOSITE if isinstance(transition.alarm, CompositeAlarm) else alarms.METRIC
    record = alarms.find(transition.alarm.name) or {}
    message = notifications.message(
        transition, place, record.get("AlarmConfigurationUpdatedTimestamp", transition.at)
    )
    for action in transition.actions:
        data = {
            "version": "1.0",
            "publishedMessage": message,
            "actionState": "Succeeded",
            "notificationResource": action,
            "stateUpdateTimestamp": int(transition.at * 1000),
        }
        summary = f"Successfully executed action {action}"
        try:
            _act(action, message, notifications.subject(transition, place), place.arn(transition.alarm))
        except ActionFailedError as failure:
            data |= {"actionState": "Failed", "error": str(failure)}
            summary = f'Failed to execute action {action}. Received error: "{failure}"'
        alarms.note(transition.alarm.name, kind, "Action", summary, data, transition.at)


def _act(action: str, message: str, subject: str, alarm_arn: str) -> None:
    if action.startswith("arn:aws:sns:"):
        _publish(action, message, subject, alarm_arn)
    elif action.startswith("arn:aws:lambda:"):
        function, config, _ = lambda_svc._get_func_record_for_ref(action)
        if not function or not config:
            raise ActionFailedError(f"Function not found: {action}")
        lambda_svc.invoke_async_with_retry(
            lambda_svc._execution_record_for_config(function, config), json.loads(message)
        )
    else:
        raise ActionFailedError("the local stage takes no actions of this kind")


def _publish(topic_arn: str, message: str, subject: str, alarm_arn: str) -> None:
    topic = sns._topic_by_arn_any_scope(topic_arn)
    if topic is None:
        raise ActionFailedError(f"Resource: {topic_arn} does not exist")
    if not sns.topic_policy_allows(topic_arn, SERVICE, alarm_arn, get_account_id()):
        raise ActionFailedError(
            f"CloudWatch Alarms is not authorized to perform: SNS:Publish on resource: {topic_arn}"
        )
    key = topic.get("attributes", {}).get("KmsMasterKeyId")
    if key and not _may_use(key, alarm_arn):
        raise ActionFailedError(
            f"CloudWatch Alarms does not have authorization to access the SNS topic encryption key {key}"
        )
    try:
        sns.publish_internal(topic_arn, message, subject)
    except sns.SnsPublishError as error:
        raise ActionFailedError(str(error)) from error


def _may_use(key_id: str, alarm_arn: str) -> bool:
    """Whether the policy of a topic's key lets CloudWatch encrypt with it."""
    key = kms._resolve_key(key_id)
    if key is None:  # an AWS-managed key, whose policy nobody can change
        return False
    account = get_account_id()
    source = {"aws:sourcearn": alarm_arn, "aws:sourceaccount": account}
    return all(
        evaluate_resource_policy(
            key["Policy"],
            EvalContext("*", "Service", "", action, key["Arn"], get_region(), service_context=source),
            service=SERVICE,
        ).decision
        == "Allow"
        for action in _KEY_ACTIONS
    )
