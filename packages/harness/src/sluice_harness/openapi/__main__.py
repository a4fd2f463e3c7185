"""``uvx nox -s openapi``: writes ``docs/openapi.yaml`` as the present code has it.

The throttle in it is the prod stage's; all else is every stage's.
"""

from __future__ import annotations

import sys

from sluice_harness import cdk_cli
from sluice_harness.description import ROOT
from sluice_harness.openapi.document import FILE, as_yaml, document
from sluice_harness.openapi.template import read_api

_STAGE = "prod"


def main() -> None:
    """Synthesize, and write the file."""
    try:
        assembly = cdk_cli.synthesize(_STAGE, ROOT / "build" / "cdk.out" / _STAGE)
        text = as_yaml(document(read_api(assembly)))
    except cdk_cli.CdkError as error:
        raise SystemExit(f"error: {cdk_cli.explain(str(error))}") from None
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    FILE.write_text(text)
    sys.stdout.write(f"{FILE.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
