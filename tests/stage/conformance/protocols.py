"""CloudWatch by each of the protocols that it speaks."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.loaders import Loader

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

PROTOCOLS = ("smithy-rpc-v2-cbor", "json", "query")


class _OneProtocol(Loader):
    """Loads CloudWatch's model as one that speaks a single protocol."""

    def __init__(self, protocol: str) -> None:
        super().__init__()
        self._protocol = protocol

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        model = super().load_service_model(service_name, type_name, api_version)
        if type_name == "service-2" and service_name == "cloudwatch":
            metadata = model["metadata"] | {"protocol": self._protocol, "protocols": [self._protocol]}
            return {**model, "metadata": metadata}
        return model


@functools.cache
def cloudwatch_client(engine: Engine, protocol: str) -> Any:
    """Return a client of CloudWatch that speaks this protocol."""
    session = botocore.session.Session()
    session.register_component("data_loader", _OneProtocol(protocol))
    client = session.create_client(
        "cloudwatch",
        region_name="us-east-1",
        endpoint_url=engine.url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    assert client.meta.service_model.resolved_protocol == protocol
    return client
