"""A Cognito user pool as far as tokens go: real RSA keys, real signatures, its keys served over HTTP."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

if TYPE_CHECKING:
    from collections.abc import Iterator

POOL_ID = "eu-west-1_Sluice"
ISSUER = f"https://cognito-idp.eu-west-1.amazonaws.com/{POOL_ID}"
CLIENT_ID = "3n4b5urk1ft4fl3mg5e62d9ado"
OWNER = "0a1b2c3d-1111-4222-8333-444455556666"


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:  # noqa: ARG001 - the cache's key
    """Return the key of this name, made once in a process."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_pem(name: str) -> bytes:
    """Return the public half, as anyone could publish or steal it."""
    return rsa_key(name).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def id_claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a good ID token; a change to None takes the claim out."""
    return _claims({"token_use": "id", "aud": CLIENT_ID}, changes)


def access_claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a good access token; a change to None takes the claim out."""
    return _claims({"token_use": "access", "client_id": CLIENT_ID, "scope": "openid sluice/jobs"}, changes)


def _claims(own: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    now = int(time.time())
    common = {"sub": OWNER, "iss": ISSUER, "iat": now, "exp": now + 3600}
    return {name: value for name, value in {**common, **own, **changes}.items() if value is not None}


def sign(claims: dict[str, Any], key: str = "first", **headers: Any) -> str:
    """Return a token signed with a key, whose name is its ``kid`` unless the headers say otherwise."""
    return jwt.encode(claims, rsa_key(key), "RS256", {"kid": key, **headers})


class FakePool:
    """Publishes keys by name; counts fetches; can break down."""

    def __init__(self) -> None:
        self.published = ["first"]
        self.fetches = 0
        self.status = 200
        self.body: bytes | None = None
        self.url = ""

    @property
    def jwks_url(self) -> str:
        return f"{self.url}/{POOL_ID}/.well-known/jwks.json"

    def answer(self, path: str) -> tuple[int, bytes]:
        self.fetches += 1
        if path != f"/{POOL_ID}/.well-known/jwks.json":
            return 404, b"{}"
        keys = [
            {**RSAAlgorithm.to_jwk(rsa_key(name).public_key(), as_dict=True), "kid": name, "use": "sig"}
            for name in self.published
        ]
        return self.status, json.dumps({"keys": keys}).encode() if self.body is None else self.body


@contextmanager
def running_pool() -> Iterator[FakePool]:
    """Serve a pool on a free port of the loopback interface."""
    pool = FakePool()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = pool.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        pool.url = f"http://127.0.0.1:{server.server_port}"
        yield pool
        server.shutdown()
        thread.join()
