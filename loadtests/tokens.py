"""Whom the load generator signs in as, and their tokens: from Cognito, and renewed before they expire."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from gevent.lock import BoundedSemaphore
from sluice_harness.description import User, at

if TYPE_CHECKING:
    from sluice_harness.description import StageDescription

# A token is renewed when so much of its life is over.
_RENEW_AT = 0.8


@dataclass(slots=True)
class Owner:
    """A user of the stage and their present token.

    Attributes
    ----------
    sub : str
        Their ``sub``, by which jobs are theirs; empty until they have signed in.
    renew_at : float
        From when on the token is to be renewed, in epoch seconds.

    """

    user: User
    ordinal: int
    sub: str = ""
    token: str = ""
    refresh_token: str = ""
    renew_at: float = 0.0
    lock: BoundedSemaphore = field(default_factory=BoundedSemaphore)


class TokenBook:
    """The owners of a run, signed in when they are first needed.

    Raises
    ------
    ValueError
        There is no ordinary user to sign in as; the message says where they come from.

    """

    def __init__(self, stage: StageDescription, users: list[User], most: int | None) -> None:
        ordinary = [user for user in users if not user.groups][:most]
        if not ordinary:
            raise ValueError(
                f"stage {stage.stage} lists no users to sign in as: give --credentials FILE, "
                "or `uvx nox -s loadtest` its --temporary-users N"
            )
        self.owners = [Owner(user, ordinal) for ordinal, user in enumerate(ordinary)]
        self._client_id = stage.userPoolClientId
        self._cognito = boto3.client(
            "cognito-idp",
            endpoint_url=stage.endpointUrl,
            region_name=stage.region,
            config=Config(signature_version=UNSIGNED, retries={"mode": "standard", "total_max_attempts": 4}),
        )

    def sign_in_all(self) -> None:
        """Sign every owner in, so that none of their requests has to wait for it."""
        for owner in self.owners:
            self.token(owner)

    def token(self, owner: Owner) -> str:
        """Return a token that is good for some time yet.

        Raises
        ------
        botocore.exceptions.ClientError
            The user or password is wrong.

        """
        if time.time() < owner.renew_at:
            return owner.token
        with owner.lock:  # one of those who need it renews it
            if time.time() >= owner.renew_at:
                self._renew(owner)
        return owner.token

    def _renew(self, owner: Owner) -> None:
        result = (owner.refresh_token and self._refreshed(owner)) or self._signed_in(owner)
        owner.token = result["IdToken"]
        owner.refresh_token = result.get("RefreshToken", owner.refresh_token)
        claims = _claims(owner.token)
        owner.sub = claims["sub"]
        now = time.time()
        owner.renew_at = now + _RENEW_AT * (claims["exp"] - now)

    def _signed_in(self, owner: Owner) -> dict[str, Any]:
        parameters = {"USERNAME": owner.user.username, "PASSWORD": owner.user.password}
        answer = self._cognito.initiate_auth(
            AuthFlow="USER_PASSWORD_AUTH", ClientId=self._client_id, AuthParameters=parameters
        )
        return dict(answer["AuthenticationResult"])

    def _refreshed(self, owner: Owner) -> dict[str, Any] | None:
        """Renew by the refresh token; None if that is over, or if the pool's client does not allow it."""
        try:
            answer = self._cognito.initiate_auth(
                AuthFlow="REFRESH_TOKEN_AUTH",
                ClientId=self._client_id,
                AuthParameters={"REFRESH_TOKEN": owner.refresh_token},
            )
        except ClientError:
            owner.refresh_token = ""
            return None
        return dict(answer["AuthenticationResult"])


def find_stage(host: str | None) -> StageDescription:
    """Return the stage whose API is at this address.

    Raises
    ------
    ValueError
        No stage describes itself so.

    """
    try:
        return at(host or "")
    except FileNotFoundError:
        raise ValueError(
            f"no stage describes itself in build/stages as {host or '--host, which is not given'}: "
            "start one with `uvx nox -s local`, or give the apiUrl of one that is there"
        ) from None


def users_of(stage: StageDescription, file: str | None) -> list[User]:
    """Return a stage's users: those of the description, or of a JSON file like its ``users``.

    Raises
    ------
    ValueError
        The file is not a list of objects with ``username``, ``password`` and perhaps ``groups``.

    """
    if file is None:
        return stage.users
    try:
        return [User(**{"groups": [], **one}) for one in json.loads(Path(file).read_text())]
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(
            f'{file}: give a JSON list of {{"username": "...", "password": "..."}}: {error}'
        ) from error


def _claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims
