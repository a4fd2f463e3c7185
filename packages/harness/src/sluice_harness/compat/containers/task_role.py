"""A container acts as its task's role, with credentials of its own that end with it.

ECS hands a task's containers credentials of the task role (Amazon ECS Developer Guide, "Amazon ECS task IAM
role"), whose trust policy has to let `ecs-tasks.amazonaws.com` assume it; otherwise the task does not start. There
they come by HTTP, here by environment variables, which an SDK looks at first. The session is named after the task.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from ministack import app as engine_app
from ministack.core import iam_evaluator as iam
from ministack.core.responses import get_region
from ministack.services import iam as iam_service
from ministack.services import sts

from sluice_harness.compat.containers.process import StartError
from sluice_harness.compat.patching import expect

if TYPE_CHECKING:
    from types import TracebackType

_SERVICE = "ecs-tasks.amazonaws.com"


def apply() -> None:
    """Check that sessions are where `Session` puts them."""
    expect(sts, "register_session", "access_key", "session")
    expect(sts, "_sessions")
    expect(iam_service, "_roles")
    expect(iam, "evaluate_resource_policy", "doc", "ctx", "service", "named_only", "direct_only")


class Session:
    """A role's session, for as long as a container runs.

    Raises
    ------
    StartError
        There is no such role, or ECS may not assume it.

    """

    def __init__(self, role_arn: str, name: str) -> None:
        account, role_name = role_arn.split(":")[4], role_arn.rpartition("/")[2]
        if not _is_assumable(role_arn, account, role_name):
            raise StartError(
                f"ECS was unable to assume the role '{role_arn}' that was provided for this task. Please verify "
                "that the role being passed has the proper trust relationship and permissions and that your IAM "
                "user has permissions to pass this role."
            )
        self._key, secret, token = (
            f"ASIA{secrets.token_hex(8).upper()}",
            secrets.token_hex(20),
            secrets.token_hex(32),
        )
        sts.register_session(
            self._key,
            {
                "Arn": f"arn:aws:sts::{account}:assumed-role/{role_name}/{name}",
                "UserId": f"{role_name}:{name}",
                "SecretAccessKey": secret,
                "SessionToken": token,
            },
        )
        self.environment = {
            "AWS_ACCESS_KEY_ID": self._key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_SESSION_TOKEN": token,
        }

    def __enter__(self) -> dict[str, str]:
        return self.environment

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sts._sessions.pop(self._key, None)


def _is_assumable(role_arn: str, account: str, name: str) -> bool:
    role = iam_service._roles.get_scoped(account, None, name)
    if role is None or not engine_app.AUTH:
        return role is not None
    on_behalf_of = {"aws:sourceaccount": account, "aws:sourcearn": f"arn:aws:ecs:{get_region()}:{account}:*"}
    context = iam.EvalContext("", "Service", account, "sts:AssumeRole", role_arn, "", service_context=on_behalf_of)
    trust = iam.evaluate_resource_policy(role["AssumeRolePolicyDocument"], context, service=_SERVICE)
    return bool(trust.decision == "Allow")
