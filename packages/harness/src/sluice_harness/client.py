"""A client of a stage, as its users would write one: signs in, submits, follows, downloads; HTTP only."""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING, Any

import boto3
import httpx
from botocore import UNSIGNED
from botocore.config import Config

from sluice_harness.description import User

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sluice_harness.description import StageDescription


def sign_in(stage: StageDescription, user: User) -> dict[str, str]:
    """Return Cognito's tokens (``IdToken``, ``AccessToken``) for a user.

    Raises
    ------
    botocore.exceptions.ClientError
        The user or password is wrong.

    """
    cognito = boto3.client(
        "cognito-idp",
        endpoint_url=stage.endpointUrl,
        region_name=stage.region,
        config=Config(signature_version=UNSIGNED),
    )
    answer = cognito.initiate_auth(
        AuthFlow="USER_PASSWORD_AUTH",
        ClientId=stage.userPoolClientId,
        AuthParameters={"USERNAME": user.username, "PASSWORD": user.password},
    )
    return {name: str(value) for name, value in answer["AuthenticationResult"].items()}


def add_user(cognito: Any, pool: str, name: str, groups: Sequence[str] = ()) -> User:
    """Add a user to a pool, with a password made for it that satisfies the pool's policy, and return it."""
    user = User(name, f"{secrets.token_urlsafe(18)}aA1!", list(groups))
    cognito.admin_create_user(UserPoolId=pool, Username=name, MessageAction="SUPPRESS")
    cognito.admin_set_user_password(UserPoolId=pool, Username=name, Password=user.password, Permanent=True)
    for group in groups:
        cognito.admin_add_user_to_group(UserPoolId=pool, Username=name, GroupName=group)
    return user


@contextlib.contextmanager
def temporary_users(cognito: Any, pool: str, names: Iterable[str]) -> Iterator[list[User]]:
    """Add users to a pool for the time of the block, and take them away again however it ends."""
    with contextlib.ExitStack() as added:
        users = []
        for name in names:
            added.callback(_remove_user, cognito, pool, name)  # before: half an addition leaves a user, too
            users.append(add_user(cognito, pool, name))
        yield users


def _remove_user(cognito: Any, pool: str, name: str) -> None:
    with contextlib.suppress(cognito.exceptions.UserNotFoundException):
        cognito.admin_delete_user(UserPoolId=pool, Username=name)


class JobClient:
    """Calls the API as one user. Usable from several threads."""

    def __init__(self, stage: StageDescription, user: User) -> None:
        self.user = user
        token = sign_in(stage, user)["IdToken"]
        self._http = httpx.Client(
            base_url=stage.apiUrl,
            headers={"Authorization": token},
            timeout=30,
            limits=httpx.Limits(max_connections=32),
        )

    def submit(self, body: Mapping[str, Any]) -> httpx.Response:
        """POST a submission."""
        return self._http.post("/submit-job", json=body)

    def status(self, job_id: str) -> httpx.Response:
        """GET one job."""
        return self._http.get(f"/job-status/{job_id}")

    def jobs(self) -> httpx.Response:
        """GET the first page of one's own jobs."""
        return self._http.get("/job-status")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
