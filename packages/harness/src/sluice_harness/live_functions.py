"""A stage's functions as they are invoked: through the alias that a deployment points at its new version.

A change of a function's configuration changes nothing that runs until it is published and the alias points there
(AWS Lambda, "Manage Lambda function versions"). Tools and tests that change one release it as a deployment does.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from sluice_core import LIVE_ALIAS

if TYPE_CHECKING:
    from collections.abc import Iterator

# The engine takes half a second to say that an update is done; boto3 would ask once a second.
_OFTEN = {"Delay": 0.1, "MaxAttempts": 600}


def live(function: str) -> str:
    """Return the name by which to invoke a function, and to ask what is invoked."""
    return f"{function}:{LIVE_ALIAS}"


def mappings(lambda_: Any, function: str) -> list[str]:
    """Return the ids of the event-source mappings that invoke a function."""
    listed = lambda_.list_event_source_mappings(FunctionName=live(function))["EventSourceMappings"]
    return [mapping["UUID"] for mapping in listed]


def release(lambda_: Any, function: str, **settings: Any) -> None:
    """Change a function's configuration, let its alias serve that, and delete the version before.

    Parameters
    ----------
    lambda_ : client
        Of boto3.
    function : str
        Its name, without the alias.
    **settings
        As ``update_function_configuration`` takes them.

    """
    before = lambda_.get_alias(FunctionName=function, Name=LIVE_ALIAS)["FunctionVersion"]
    lambda_.update_function_configuration(FunctionName=function, **settings)
    lambda_.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig=_OFTEN)
    version = lambda_.publish_version(FunctionName=function)["Version"]
    lambda_.update_alias(FunctionName=function, Name=LIVE_ALIAS, FunctionVersion=version)
    lambda_.delete_function(FunctionName=function, Qualifier=before)


@contextlib.contextmanager
def with_variables(lambda_: Any, function: str, **variables: str) -> Iterator[None]:
    """Release a function with these environment variables besides its own, and then without them."""
    usual = lambda_.get_function_configuration(FunctionName=live(function))["Environment"]["Variables"]
    release(lambda_, function, Environment={"Variables": {**usual, **variables}})
    try:
        yield
    finally:
        release(lambda_, function, Environment={"Variables": usual})
