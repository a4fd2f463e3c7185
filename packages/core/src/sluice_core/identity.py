"""Who calls: verifies the tokens of a Cognito user pool, without the AWS SDK and its cold start.

Facts from Amazon Cognito's "Verifying JSON web tokens" and its pages on ID and access tokens.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import jwt

from sluice_core.callers import Caller, is_owner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SCOPE = "sluice/jobs"

_ALGORITHMS = ["RS256"]  # all that Cognito signs with; anything else is an attempt to choose the check
_LEEWAY_S = 10
_REFETCH_PAUSE_S = 10
_FETCH_TIMEOUT_S = 3
# Each kind of token names the client it is meant for in a claim of its own.
_AUDIENCE = {"id": "aud", "access": "client_id"}
_REASONS: Mapping[type[Exception], str] = {
    jwt.ExpiredSignatureError: "expired",
    jwt.ImmatureSignatureError: "not-yet-valid",
    jwt.InvalidAlgorithmError: "algorithm",
    jwt.InvalidIssuerError: "issuer",
    jwt.InvalidSignatureError: "signature",
    jwt.MissingRequiredClaimError: "claim-missing",
}


class InvalidToken(Exception):  # noqa: N818 - named for what it is
    """The token proves nothing; the answer is a 401. The text is one word and safe to log."""


class InsufficientScope(Exception):  # noqa: N818
    """A genuine access token that was not granted `SCOPE`; the answer is a 403.

    Attributes
    ----------
    owner : str
        The token's ``sub``.

    """

    def __init__(self, owner: str) -> None:
        super().__init__(f"the token lacks the scope {SCOPE}")
        self.owner = owner


class JwksUnavailable(Exception):  # noqa: N818
    """The pool's public keys could not be had, so nothing can be said about a token; the answer is a 500."""


class TokenVerifier:
    """Verifies the ID and access tokens of one app client.

    The pool's keys are fetched on first use and kept. Keep one verifier for the life of the process.

    Parameters
    ----------
    issuer : str
        What ``iss`` must say: ``https://cognito-idp.<region>.amazonaws.com/<pool id>``.
    client_id : str
        The app client that the tokens must be meant for.
    jwks_url : str
        Where the pool publishes its keys, http or https.
    clock : Callable
        Monotonic seconds, for the pause between fetches.

    """

    def __init__(
        self, issuer: str, client_id: str, jwks_url: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._issuer = issuer
        self._client_id = client_id
        # Only its fetch is used. Its own cache would drop good keys every few minutes, so that an outage of
        # the endpoint became ours, and would refuse a key rotated in soon after any fetch.
        self._jwks = jwt.PyJWKClient(jwks_url, cache_jwk_set=False, timeout=_FETCH_TIMEOUT_S)
        self._clock = clock
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._refetch_after = clock()

    def verify(self, token: str) -> Caller:
        """Return whom a token speaks for.

        Parameters
        ----------
        token : str
            The JWT, bare or after ``Bearer``: the value of an ``Authorization`` header.

        Raises
        ------
        InvalidToken
            It is malformed, expired, signed by another, or meant for something else.
        InsufficientScope
            It is an access token without `SCOPE`.
        JwksUnavailable
            The pool's keys are needed and cannot be fetched within 3 s.

        """
        claims = self._decode(_bare(token))
        kind = str(claims.get("token_use"))
        if kind not in _AUDIENCE:
            raise InvalidToken("token-use")
        if claims.get(_AUDIENCE[kind]) != self._client_id:
            raise InvalidToken("audience")
        caller = _caller(claims)
        if kind == "access" and SCOPE not in str(claims.get("scope", "")).split():
            raise InsufficientScope(caller.owner)
        return caller

    def _decode(self, token: str) -> dict[str, Any]:
        """Check all that JWTs have in common; PyJWT does, with our settings."""
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in _ALGORITHMS:  # before a key is looked for, and perhaps fetched
                raise jwt.InvalidAlgorithmError
            return jwt.decode(
                token,
                self._key(header.get("kid")),
                algorithms=_ALGORITHMS,
                issuer=self._issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iat", "sub"], "verify_aud": False},
            )
        except (jwt.InvalidTokenError, UnicodeEncodeError) as error:
            raise InvalidToken(_REASONS.get(type(error), "malformed")) from None

    def _key(self, key_id: str | None) -> jwt.PyJWK:
        """Find the key; an unknown one may be new, which is worth a fetch, but not one for each token."""
        if key_id is None:
            raise InvalidToken("key-missing")
        if not self._keys:
            self._keys = self._fetch()
        elif key_id not in self._keys and self._clock() >= self._refetch_after:
            self._refetch_after = self._clock() + _REFETCH_PAUSE_S
            self._keys = self._fetch()
        if key_id not in self._keys:
            raise InvalidToken("key-unknown")
        return self._keys[key_id]

    def _fetch(self) -> dict[str | None, jwt.PyJWK]:
        try:
            return {key.key_id: key for key in self._jwks.get_signing_keys()}
        except (jwt.PyJWTError, OSError, ValueError) as error:
            raise JwksUnavailable("the user pool's keys could not be fetched") from error


def _bare(token: str) -> str:
    scheme, _, rest = token.strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else token.strip()


def _caller(claims: Mapping[str, Any]) -> Caller:
    owner, groups = claims["sub"], claims.get("cognito:groups", [])
    if not is_owner(owner):
        raise InvalidToken("subject")
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise InvalidToken("groups")
    return Caller(owner, tuple(groups))
