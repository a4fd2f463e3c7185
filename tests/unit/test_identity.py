from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import subprocess
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core.callers import Caller
from sluice_core.identity import InsufficientScope, InvalidToken, JwksUnavailable, TokenVerifier
from unit.fake_pool import (
    CLIENT_ID,
    ISSUER,
    OWNER,
    FakePool,
    access_claims,
    id_claims,
    public_pem,
    running_pool,
    sign,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def pool() -> Iterator[FakePool]:
    with running_pool() as pool:
        yield pool


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(pool: FakePool, clock: Clock) -> TokenVerifier:
    return TokenVerifier(ISSUER, CLIENT_ID, pool.jwks_url, clock=clock)


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def assemble(header: dict[str, Any], claims: dict[str, Any], secret: bytes = b"") -> str:
    """Forge a token by hand, with an HMAC where there is a secret and no signature where there is none."""
    signed = f"{base64url(json.dumps(header).encode())}.{base64url(json.dumps(claims).encode())}"
    signature = hmac.digest(secret, signed.encode(), hashlib.sha256) if secret else b""
    return f"{signed}.{base64url(signature)}"


def reason(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(InvalidToken) as caught:
        verifier.verify(token)
    return str(caught.value)


@pytest.mark.parametrize("prefix", ["", "Bearer ", "bearer ", "BEARER  ", " "])
def test_an_id_token_is_accepted_bare_or_as_bearer(verifier: TokenVerifier, prefix: str) -> None:
    # Given a good ID token, when it comes bare or with the scheme
    caller = verifier.verify(prefix + sign(id_claims(**{"cognito:groups": ["apiAdmins", "ops"]})))

    # Then it says who calls
    assert caller == Caller(OWNER, ("apiAdmins", "ops"))
    assert caller.is_admin


def test_an_access_token_with_the_scope_is_accepted(verifier: TokenVerifier) -> None:
    caller = verifier.verify(sign(access_claims()))

    assert caller == Caller(OWNER)
    assert not caller.is_admin


@pytest.mark.parametrize("scope", [None, "", "aws.cognito.signin.user.admin", "sluice/jobs.read", "xsluice/jobs"])
def test_an_access_token_without_the_scope_is_forbidden(verifier: TokenVerifier, scope: str | None) -> None:
    with pytest.raises(InsufficientScope) as caught:
        verifier.verify(sign(access_claims(scope=scope)))

    assert caught.value.owner == OWNER


def test_a_stranger_s_access_token_is_invalid_rather_than_short_of_scope(verifier: TokenVerifier) -> None:
    assert reason(verifier, sign(access_claims(client_id="other", scope=None))) == "audience"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": None}, "claim-missing"),
        ({"exp": "soon"}, "malformed"),
        ({"iat": None}, "claim-missing"),
        ({"iat": 4_000_000_000}, "not-yet-valid"),
        ({"nbf": 4_000_000_000}, "not-yet-valid"),
        ({"iss": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Other"}, "issuer"),
        ({"iss": None}, "claim-missing"),
        ({"aud": "other"}, "audience"),
        ({"aud": None}, "audience"),
        ({"aud": None, "client_id": CLIENT_ID}, "audience"),
        ({"aud": [CLIENT_ID]}, "audience"),
        ({"token_use": "refresh"}, "token-use"),
        ({"token_use": None}, "token-use"),
        ({"token_use": ["id"]}, "token-use"),
        ({"token_use": "access"}, "audience"),
        ({"sub": None}, "claim-missing"),
        ({"sub": ""}, "subject"),
        ({"sub": "two words"}, "subject"),
        ({"sub": "a#b"}, "subject"),
        ({"sub": "line\n"}, "subject"),
        ({"sub": "x" * 129}, "subject"),
        ({"cognito:groups": "apiAdmins"}, "groups"),
        ({"cognito:groups": [1]}, "groups"),
    ],
)
def test_a_genuine_signature_does_not_help_wrong_claims(
    verifier: TokenVerifier, changes: dict[str, Any], expected: str
) -> None:
    assert reason(verifier, sign(id_claims(**changes))) == expected


def test_clocks_may_disagree_by_ten_seconds(verifier: TokenVerifier) -> None:
    now = int(time.time())

    assert verifier.verify(sign(id_claims(exp=now - 5, iat=now + 5)))
    assert reason(verifier, sign(id_claims(exp=now - 12))) == "expired"
    assert reason(verifier, sign(id_claims(iat=now + 60))) == "not-yet-valid"


def test_an_owner_of_128_characters_is_accepted(verifier: TokenVerifier) -> None:
    assert verifier.verify(sign(id_claims(sub="x" * 128))).owner == "x" * 128


def test_another_key_under_a_known_id_is_a_wrong_signature(verifier: TokenVerifier) -> None:
    assert reason(verifier, sign(id_claims(), key="forged", kid="first")) == "signature"


def test_a_changed_payload_is_a_wrong_signature(verifier: TokenVerifier) -> None:
    # Given a genuine token whose claims are exchanged
    header, _, signature = sign(id_claims()).split(".")
    payload = base64url(json.dumps(id_claims(sub="someone-else")).encode())

    # Then its signature no longer fits
    assert reason(verifier, f"{header}.{payload}.{signature}") == "signature"


@pytest.mark.parametrize("algorithm", ["none", "None", "", None, "RS512", "ES256"])
def test_no_other_algorithm_is_accepted_and_no_key_fetched_for_it(
    verifier: TokenVerifier, pool: FakePool, algorithm: str | None
) -> None:
    forged = assemble({"alg": algorithm, "kid": "first"}, id_claims())

    assert reason(verifier, forged) == "algorithm"
    assert pool.fetches == 0


def test_the_public_key_is_no_shared_secret(verifier: TokenVerifier) -> None:
    # Given a token signed by HMAC with the public key, which everyone knows
    forged = assemble({"alg": "HS256", "kid": "first"}, id_claims(), public_pem("first"))

    # Then it is refused by its algorithm, with the keys loaded too
    verifier.verify(sign(id_claims()))
    assert reason(verifier, forged) == "algorithm"


def test_an_hmac_called_rs256_is_a_wrong_signature(verifier: TokenVerifier) -> None:
    forged = assemble({"alg": "RS256", "kid": "first"}, id_claims(), public_pem("first"))

    assert reason(verifier, forged) == "signature"


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        " ",
        "Bearer",
        "Bearer ",
        "Basic dXNlcg==",
        "a.b.c",
        "...",
        "é",
        "\ud800",
        "\x00",
        "x" * 9000,
        "a.b",
    ],
)
def test_garbage_is_malformed_and_fetches_nothing(verifier: TokenVerifier, pool: FakePool, garbage: str) -> None:
    assert reason(verifier, garbage) == "malformed"
    assert pool.fetches == 0


@pytest.mark.parametrize("header", [[], "RS256", None, {"alg": ["RS256"]}, {"alg": "RS256", "kid": 7}])
def test_odd_headers_are_refused(verifier: TokenVerifier, header: Any) -> None:
    assert reason(verifier, assemble(header, id_claims())) in {"malformed", "algorithm"}


def test_a_token_without_a_key_id_is_refused_and_fetches_nothing(verifier: TokenVerifier, pool: FakePool) -> None:
    token = assemble({"alg": "RS256"}, id_claims())

    assert reason(verifier, token) == "key-missing"
    assert pool.fetches == 0


def test_keys_are_fetched_once(verifier: TokenVerifier, pool: FakePool, clock: Clock) -> None:
    for _ in range(3):
        verifier.verify(sign(id_claims()))
        clock.now += 86_400

    assert pool.fetches == 1


def test_a_rotated_key_is_found_at_once(verifier: TokenVerifier, pool: FakePool) -> None:
    # Given keys that were fetched just now
    verifier.verify(sign(id_claims()))

    # When the pool rotates its keys in the same second
    pool.published = ["second"]

    # Then the new key is fetched, and the old one no longer counts
    assert verifier.verify(sign(id_claims(), key="second"))
    assert pool.fetches == 2
    assert reason(verifier, sign(id_claims(), key="first")) == "key-unknown"


def test_a_flood_of_unknown_keys_costs_one_fetch_in_ten_seconds(
    verifier: TokenVerifier, pool: FakePool, clock: Clock
) -> None:
    # Given a verifier that has its keys
    verifier.verify(sign(id_claims()))

    # When unknown keys come in numbers
    for number in range(5):
        assert reason(verifier, sign(id_claims(), kid=f"unknown-{number}")) == "key-unknown"

    # Then they cost one fetch, good tokens pass, and the next fetch waits its turn
    assert pool.fetches == 2
    assert verifier.verify(sign(id_claims()))
    clock.now += 9.9
    assert reason(verifier, sign(id_claims(), kid="unknown")) == "key-unknown"
    assert pool.fetches == 2
    clock.now += 0.2
    pool.published = ["first", "second"]
    assert verifier.verify(sign(id_claims(), key="second"))
    assert pool.fetches == 3


def test_an_unknown_key_on_the_first_call_is_not_fetched_twice(verifier: TokenVerifier, pool: FakePool) -> None:
    assert reason(verifier, sign(id_claims(), kid="unknown")) == "key-unknown"
    assert pool.fetches == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, None),
        (404, None),
        (302, None),
        (200, b""),
        (200, b"<html>"),
        (200, b"\xff"),
        (200, b"[]"),
        (200, b'{"keys": []}'),
    ],
)
def test_keys_that_cannot_be_had_are_no_fault_of_the_token(
    verifier: TokenVerifier, pool: FakePool, status: int, body: bytes | None
) -> None:
    # Given an endpoint that is broken
    pool.status, pool.body = status, body
    with pytest.raises(JwksUnavailable):
        verifier.verify(sign(id_claims()))

    # When it recovers, then so do we, at once
    pool.status, pool.body = 200, None
    assert verifier.verify(sign(id_claims()))


def test_an_outage_later_does_not_matter_to_known_keys(verifier: TokenVerifier, pool: FakePool) -> None:
    # Given keys on hand, and then an outage
    verifier.verify(sign(id_claims()))
    pool.status = 503

    # Then an unknown key is undecided, and known keys go on working
    with pytest.raises(JwksUnavailable):
        verifier.verify(sign(id_claims(), key="second"))
    assert verifier.verify(sign(id_claims()))


def test_a_refused_connection_is_unavailable() -> None:
    # Given a port where nothing listens
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/jwks.json"

        with pytest.raises(JwksUnavailable):
            TokenVerifier(ISSUER, CLIENT_ID, url).verify(sign(id_claims()))


@pytest.mark.parametrize(
    "token",
    [sign(id_claims(sub="private ")), sign(id_claims(), crit=["private"]), "private.private.private"],
    ids=["claim", "header", "garbage"],
)
def test_nothing_of_a_token_shows_in_an_error(verifier: TokenVerifier, token: str) -> None:
    with pytest.raises(InvalidToken) as caught:
        verifier.verify(token)

    # The traceback, which Lambda logs, shows source lines and one word
    shown = "".join(traceback.format_exception(caught.value))
    assert "private" not in shown
    assert token not in shown


def test_importing_needs_no_aws_sdk() -> None:
    code = "import sys, sluice_core.identity; sys.exit(any(m in sys.modules for m in ('boto3', 'botocore')))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
