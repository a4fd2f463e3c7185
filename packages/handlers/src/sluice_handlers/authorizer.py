"""API Gateway's TOKEN authorizer: says who calls, and lets them use the API or not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from sluice_core import metrics
from sluice_core.callers import Caller
from sluice_core.identity import InsufficientScope, InvalidToken, JwksUnavailable, TokenVerifier

from sluice_handlers.telemetry import Measurements, logger

if TYPE_CHECKING:
    from collections.abc import Mapping


def _verifier() -> TokenVerifier:
    """Make the verifier of this stage's user pool.

    Keys come from where the AWS SDK's own variables send Cognito calls (AWS SDKs and Tools Reference Guide,
    "Service-specific endpoints"), which is how the local stage redirects them. The issuer stays Cognito's.
    """
    cognito = f"https://cognito-idp.{os.environ['AWS_REGION']}.amazonaws.com"
    pool = os.environ["USER_POOL_ID"]
    endpoint = (
        os.environ.get("AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER")
        or os.environ.get("AWS_ENDPOINT_URL")
        or cognito
    )
    jwks_url = f"{endpoint.rstrip('/')}/{pool}/.well-known/jwks.json"
    return TokenVerifier(f"{cognito}/{pool}", os.environ["USER_POOL_CLIENT_ID"], jwks_url)


_tokens = _verifier()


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Return the policy for one token; the gateway caches it for the token, whatever the method.

    Raises
    ------
    Exception
        ``Unauthorized``, the very text that API Gateway answers with a 401, if the token is invalid.
    JwksUnavailable
        The token could not be judged; API Gateway answers 500.

    """
    with Measurements() as measured:
        try:
            caller = _tokens.verify(event.get("authorizationToken") or "")
        except InvalidToken as error:
            measured.add(metrics.AUTHORIZER_DENIALS)
            measured.add(metrics.TOKENS_REFUSED)
            logger.info("refused", reason=str(error))
            raise Exception("Unauthorized") from None  # noqa: TRY002 - API Gateway goes by this text alone
        except InsufficientScope as error:
            measured.add(metrics.AUTHORIZER_DENIALS)
            logger.info("denied", reason="scope", owner=error.owner)
            return _policy("Deny", Caller(error.owner), event["methodArn"])
        except JwksUnavailable as error:
            logger.error("undecided", reason="keys-unavailable", error=type(error.__cause__).__name__)
            raise
        logger.info("allowed", owner=caller.owner)
        return _policy("Allow", caller, event["methodArn"])


def _policy(effect: Literal["Allow", "Deny"], caller: Caller, method_arn: str) -> dict[str, Any]:
    # The whole stage: a cached policy for one method would refuse the caller's next call to another.
    api, stage, _ = method_arn.split("/", 2)
    statement = {"Effect": effect, "Action": "execute-api:Invoke", "Resource": f"{api}/{stage}/*/*"}
    return {
        "principalId": caller.owner,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": caller.context(),
    }
