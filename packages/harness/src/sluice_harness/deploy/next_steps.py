"""What to do when the CDK CLI or CloudFormation fail: their own words, and the step that follows from them."""

from __future__ import annotations

import re

# What they say, and what to do then; the first that fits.
_NEXT_STEPS = {
    r"ExpiredToken|security token included in the request is (expired|invalid)": "sign in again: `aws sso login`",
    r"AccessDenied|is not authorized to perform": "the credentials lack this permission: ask for it",
    r"LimitExceeded|limit exceeded|quota|TooManyBuckets": "a quota is used up: destroy a stage that "
    "nobody needs (`uvx nox -s destroy -- --stage NAME`), or ask for more in Service Quotas",
    r"not bootstrapped|been bootstrapped|cdk-bootstrap.*not found": "run the same command with --bootstrap",
    r"Template format error|ValidationError|Unresolved|Unrecognized resource|SyntaxError": "the template "
    "cannot be deployed as it is: mend packages/infra, not build/cdk.out, and run the same command again",
}


def explain(said: str) -> str:
    """Return what went wrong in a few lines, and the next step where it is known."""
    telling = [
        line.strip()
        for line in said.splitlines()
        if re.search(r"error|fail|❌|not authorized|exceed", line, re.IGNORECASE)
    ]
    lines = [line for line in dict.fromkeys(telling) if not line.startswith("at ")][-3:] or [said[-300:]]
    step = next((step for pattern, step in _NEXT_STEPS.items() if re.search(pattern, said)), None)
    return "\n  ".join([*lines, *([f"next: {step}"] if step else [])])
