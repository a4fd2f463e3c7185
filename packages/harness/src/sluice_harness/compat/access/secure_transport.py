"""Loopback counts as TLS.

MiniStack gives ``aws:SecureTransport`` as false for every plain-HTTP request. Clients of AWS use HTTPS, so the
TLS-only policies of our queues and bucket (IAM User Guide, "AWS global condition context keys") let them in.
The local stage is HTTP on loopback, where there is no wire to protect: its requests count as secure, and the
template's policies stay as they are.
"""

from __future__ import annotations

from ministack import app

from sluice_harness.compat.patching import expect


def apply() -> None:
    """Pin every request's origin as secure."""
    pin_request_origin = expect(app, "pin_request_origin", "source_ip", "secure_transport")

    def pin_as_secure(source_ip: str, secure_transport: bool) -> None:  # noqa: ARG001 - the engine's signature
        pin_request_origin(source_ip, True)

    app.pin_request_origin = pin_as_secure
