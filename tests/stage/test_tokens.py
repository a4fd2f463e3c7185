"""Tokens that are right but for one thing.

The stage's own pool signs with a key that never leaves the engine. So its authorizer is told, by the AWS SDK's
own variable, to fetch the keys of a pool whose key is ours; issuer and client stay as they are.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from sluice_harness.live_functions import with_variables
from stage.answers import assert_problem
from unit import fake_pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from stage.running import RunningStage

pytestmark = pytest.mark.xdist_group("broken_stage")


@pytest.fixture(scope="module")
def stage(altered_stage: RunningStage) -> Iterator[RunningStage]:
    """The stage, trusting the fake pool, whose claims are those of the stage's own."""
    described = altered_stage.description
    lambda_, authorizer = altered_stage.client("lambda"), described.functions.authorizer
    issuer = f"https://cognito-idp.{described.region}.amazonaws.com/{described.userPoolId}"
    with fake_pool.running_pool() as pool, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake_pool, "POOL_ID", described.userPoolId)
        patch.setattr(fake_pool, "CLIENT_ID", described.userPoolClientId)
        patch.setattr(fake_pool, "ISSUER", issuer)
        with with_variables(lambda_, authorizer, AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER=pool.url):
            yield altered_stage


def post(stage: RunningStage, token: str) -> httpx.Response:
    person = stage.person("ann")
    return person.post(b"{}", token=token)


def by_hand(header: dict[str, Any], claims: dict[str, Any], signature: bytes | None = None) -> str:
    """Put a token together that no library would; without a signature, an HMAC with the public key."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    signed = ".".join(part(json.dumps(one).encode()) for one in (header, claims))
    if signature is None:
        signature = hmac.digest(fake_pool.public_pem("first"), signed.encode(), hashlib.sha256)
    return f"{signed}.{part(signature)}"


def test_the_right_token_passes(stage: RunningStage) -> None:
    # The control: all that the others lack, they lack in comparison with this one.
    assert post(stage, fake_pool.sign(fake_pool.id_claims())).status_code == 202


def test_the_right_access_token_passes(stage: RunningStage) -> None:
    assert post(stage, fake_pool.sign(fake_pool.access_claims())).status_code == 202


def test_an_access_token_with_other_scopes_is_a_403(stage: RunningStage) -> None:
    token = fake_pool.sign(fake_pool.access_claims(scope="openid sluice/jobs.read"))
    assert_problem(post(stage, token), 403, "forbidden", stage)


def now() -> int:
    return int(time.time())


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"exp": now() - 60}, id="expired"),
        pytest.param({"exp": None}, id="never-expires"),
        pytest.param({"nbf": now() + 3600}, id="not-yet-valid"),
        pytest.param({"aud": "another-client"}, id="wrong-audience"),
        pytest.param({"aud": None}, id="no-audience"),
        pytest.param({"iss": "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Another"}, id="wrong-issuer"),
        pytest.param({"iss": None}, id="no-issuer"),
        pytest.param({"token_use": "refresh"}, id="wrong-use"),
        pytest.param({"sub": None}, id="no-owner"),
        pytest.param({"sub": "ann#1"}, id="owner-of-other-characters"),
    ],
)
def test_one_wrong_claim_is_a_401(stage: RunningStage, changes: dict[str, Any]) -> None:
    assert_problem(post(stage, fake_pool.sign(fake_pool.id_claims(**changes))), 401, "unauthorized", stage)


def test_an_access_token_of_another_client_is_a_401(stage: RunningStage) -> None:
    token = fake_pool.sign(fake_pool.access_claims(client_id="another-client"))
    assert_problem(post(stage, token), 401, "unauthorized", stage)


def test_a_wrong_signature_is_a_401(stage: RunningStage) -> None:
    # Given a token that names the pool's key and is signed with another
    token = fake_pool.sign(fake_pool.id_claims(), "other", kid="first")
    assert_problem(post(stage, token), 401, "unauthorized", stage)


def test_an_unknown_key_is_a_401(stage: RunningStage) -> None:
    assert_problem(post(stage, fake_pool.sign(fake_pool.id_claims(), "other")), 401, "unauthorized", stage)


@pytest.mark.parametrize("signature", [b"", b"signature"])
@pytest.mark.parametrize("algorithm", ["none", "None", "NONE"])
def test_no_algorithm_is_a_401(stage: RunningStage, algorithm: str, signature: bytes) -> None:
    token = by_hand({"alg": algorithm, "kid": "first"}, fake_pool.id_claims(), signature)
    assert_problem(post(stage, token), 401, "unauthorized", stage)


def test_an_hmac_with_the_public_key_is_a_401(stage: RunningStage) -> None:
    token = by_hand({"alg": "HS256", "kid": "first", "typ": "JWT"}, fake_pool.id_claims())
    assert_problem(post(stage, token), 401, "unauthorized", stage)


def test_a_token_of_the_replaced_pool_is_a_401(stage: RunningStage) -> None:
    # Given a token of the pool that the authorizer no longer asks
    token = stage.person("ben").id_token
    assert_problem(post(stage, token), 401, "unauthorized", stage)
