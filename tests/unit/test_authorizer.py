from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core.callers import owner_tag
from sluice_core.identity import JwksUnavailable
from unit.fake_pool import CLIENT_ID, OWNER, POOL_ID, FakePool, access_claims, id_claims, running_pool, sign

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

STAGE_ARN = "arn:aws:execute-api:eu-west-1:123456789012:a1b2c3d4e5/prod"
SETTINGS = {
    "AWS_REGION": "eu-west-1",
    "STAGE": "test",
    "USER_POOL_CLIENT_ID": CLIENT_ID,
    "USER_POOL_ID": POOL_ID,
}


@pytest.fixture
def pool() -> Iterator[FakePool]:
    with running_pool() as pool:
        yield pool


@pytest.fixture
def authorizer(pool: FakePool, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the function as Lambda does, with its settings in the environment."""
    return load(monkeypatch, AWS_ENDPOINT_URL=pool.url)


@pytest.fixture
def log(authorizer: ModuleType) -> Iterator[io.StringIO]:
    handler = authorizer.logger.registered_handler
    stream = io.StringIO()
    before = handler.setStream(stream)
    yield stream
    handler.setStream(before)


def load(monkeypatch: pytest.MonkeyPatch, **settings: str) -> ModuleType:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**SETTINGS, **settings}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delitem(sys.modules, "sluice_handlers.authorizer", raising=False)
    return importlib.import_module("sluice_handlers.authorizer")


def event(token: str, resource: str = "GET/job-status/abc") -> dict[str, str]:
    return {"type": "TOKEN", "authorizationToken": token, "methodArn": f"{STAGE_ARN}/{resource}"}


def statement(answer: dict[str, Any]) -> dict[str, str]:
    (only,) = answer["policyDocument"]["Statement"]
    return dict(only)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("resource", ["POST/submit-job", "GET/job-status/a/b", "GET/"])
def test_a_good_token_may_use_the_whole_stage(authorizer: ModuleType, resource: str) -> None:
    # Given a caller in two groups, when one method is called
    claims = id_claims(**{"cognito:groups": ["ops", "apiAdmins"]})
    answer = authorizer.handler(event(f"Bearer {sign(claims)}", resource), None)

    # Then the policy, which the gateway caches, serves every method; and the context is flat
    assert answer == {
        "principalId": OWNER,
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": f"{STAGE_ARN}/*/*"}],
        },
        "context": {"owner": OWNER, "ownerTag": owner_tag(OWNER), "groups": "ops,apiAdmins"},
    }


def test_a_caller_without_groups_has_an_empty_string(authorizer: ModuleType) -> None:
    assert authorizer.handler(event(sign(access_claims())), None)["context"]["groups"] == ""


def test_a_comma_in_a_group_s_name_makes_nobody_an_admin(authorizer: ModuleType) -> None:
    claims = id_claims(**{"cognito:groups": ["x,apiAdmins", "ops"]})

    assert authorizer.handler(event(sign(claims)), None)["context"]["groups"] == "ops"


@pytest.mark.parametrize("token", ["", "garbage", "Bearer ", None])
def test_a_bad_token_is_unauthorized(authorizer: ModuleType, token: Any) -> None:
    # API Gateway answers 401 to exactly this text, and 500 to any other
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        authorizer.handler(event(token), None)


def test_an_event_without_a_token_is_unauthorized(authorizer: ModuleType) -> None:
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        authorizer.handler({"type": "TOKEN", "methodArn": f"{STAGE_ARN}/GET/"}, None)


def test_a_token_short_of_scope_is_denied(authorizer: ModuleType) -> None:
    answer = authorizer.handler(event(sign(access_claims(scope="openid"))), None)

    assert statement(answer) == {
        "Effect": "Deny",
        "Action": "execute-api:Invoke",
        "Resource": f"{STAGE_ARN}/*/*",
    }
    assert answer["principalId"] == OWNER


def test_missing_keys_are_our_fault_not_the_caller_s(
    authorizer: ModuleType, pool: FakePool, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a pool whose keys cannot be had
    pool.status = 503

    # When a token comes, then the error is not the 401's, and no denial is counted
    with pytest.raises(JwksUnavailable):
        authorizer.handler(event(sign(id_claims())), None)
    assert [(line["message"], line["level"]) for line in lines(log.getvalue())] == [("undecided", "ERROR")]
    assert "AuthorizerDenials" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        (id_claims(), {"message": "allowed", "owner": OWNER}),
        (access_claims(scope=None), {"message": "denied", "reason": "scope", "owner": OWNER}),
        (id_claims(exp=1), {"message": "refused", "reason": "expired"}),
    ],
)
def test_each_decision_is_one_line_without_the_token(
    authorizer: ModuleType, log: io.StringIO, claims: dict[str, Any], expected: dict[str, str]
) -> None:
    # Given a token with a claim that is nobody's business
    token = sign({**claims, "email": "someone@example.com"})

    # When it is judged
    if expected["message"] == "refused":
        with pytest.raises(Exception, match="Unauthorized"):
            authorizer.handler(event(token), None)
    else:
        authorizer.handler(event(token), None)

    # Then one line says how, and nothing else
    (line,) = lines(log.getvalue())
    assert {name: line.get(name) for name in expected} == expected
    assert token not in log.getvalue()
    assert "example.com" not in log.getvalue()


@pytest.mark.parametrize(
    ("claims", "denials"), [(id_claims(exp=1), 1), (access_claims(scope=None), 1), (id_claims(), 0)]
)
def test_denials_are_counted_by_stage(
    authorizer: ModuleType,
    log: io.StringIO,
    capsys: pytest.CaptureFixture[str],
    claims: dict[str, Any],
    denials: int,
) -> None:
    # When a token is judged
    with suppress(Exception):
        authorizer.handler(event(sign(claims)), None)
    assert len(lines(log.getvalue())) == 1

    # Then a denial is one EMF document with the stage as its only dimension, and anything else is none
    documents = lines(capsys.readouterr().out)
    assert len(documents) == denials
    for document in documents:
        (directive,) = document["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == "Sluice"
        assert directive["Dimensions"] == [["Stage"]]
        assert {"Name": "AuthorizerDenials", "Unit": "Count"} in directive["Metrics"]
        assert {metric["Name"] for metric in directive["Metrics"]} <= {"AuthorizerDenials", "TokensRefused"}
        assert document["AuthorizerDenials"] == [1.0]
        assert document["Stage"] == "test"


def test_keys_come_from_the_pool_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    authorizer = load(monkeypatch)

    assert keys_url(authorizer) == (f"https://cognito-idp.eu-west-1.amazonaws.com/{POOL_ID}/.well-known/jwks.json")


def test_the_service_s_own_endpoint_goes_before_the_common_one(monkeypatch: pytest.MonkeyPatch) -> None:
    authorizer = load(
        monkeypatch,
        AWS_ENDPOINT_URL="http://127.0.0.1:1",
        AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER="http://127.0.0.1:2/",
    )

    assert keys_url(authorizer) == f"http://127.0.0.1:2/{POOL_ID}/.well-known/jwks.json"


def keys_url(authorizer: ModuleType) -> str:
    return str(authorizer._tokens._jwks.uri)


def test_importing_needs_no_aws_sdk() -> None:
    # Given a fresh interpreter with the function's settings; Powertools imports botocore's bare root (1 ms)
    code = (
        "import sys, sluice_handlers.authorizer;"
        "sys.exit(any(m.startswith(('boto3', 'botocore.')) for m in sys.modules))"
    )

    # When the function is imported, then the SDK's cold start is not paid
    ran = subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ, **SETTINGS})
    assert ran.returncode == 0
