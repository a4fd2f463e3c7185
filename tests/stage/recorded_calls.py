"""Which actions a program takes in AWS: botocore notes each call, in it and in processes that it starts.

The tests that take some themselves note them with `noted`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Any

    import pytest

# Python runs this before a program's first line. botocore is changed when the program itself imports it, and no
# earlier: gevent has to come first where Locust runs.
_SITECUSTOMIZE = """
import importlib.util, os, sys

class Recorder:
    def find_spec(self, name, path=None, target=None):
        if name != "botocore.client":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            call = module.BaseClient._make_api_call

            def recorded(client, operation, parameters):
                with open(os.environ["RECORDED_CALLS"], "a") as file:
                    file.write(f"{client.meta.service_model.service_name}:{operation}\\n")
                return call(client, operation, parameters)

            module.BaseClient._make_api_call = recorded

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Recorder())
"""
# Where IAM's name of what a call takes is another than the call's.
_ACTIONS = {
    "apigateway:GetRestApis": "apigateway:GET",
    "apigateway:GetStage": "apigateway:GET",
    "s3:ListObjectsV2": "s3:ListBucket",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}
# Signing in takes no credentials of AWS, and who one is may everybody ask.
_FREE = {"cognito-idp:InitiateAuth", "sts:GetCallerIdentity"}


def noted(client: Any, calls: set[str]) -> Any:
    """Have a boto3 client note its calls from now on."""

    def note(model: Any, **_: Any) -> None:
        calls.add(f"{model.service_model.service_name}:{model.name}")

    client.meta.events.register("before-call", note)
    return client


def actions(calls: Iterable[str]) -> set[str]:
    """What IAM has to allow for calls."""
    return {_ACTIONS.get(call, call) for call in {*calls} - _FREE}


class RecordedCalls:
    """The calls of programs that are started with the environment as it is from now on.

    Parameters
    ----------
    folder : Path
        Where notes are kept.
    environment : MonkeyPatch
        What programs that are started inherit; it ends with the test.

    """

    def __init__(self, folder: Path, environment: pytest.MonkeyPatch) -> None:
        folder.mkdir(exist_ok=True)
        self._file = folder / "calls.txt"
        (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
        environment.setenv("PYTHONPATH", str(folder))
        environment.setenv("RECORDED_CALLS", str(self._file))

    @property
    def actions(self) -> set[str]:
        """What IAM has to allow for them."""
        return actions(self._file.read_text().split())
