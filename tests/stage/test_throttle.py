"""A client that calls too often is told so, and when to come again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from stage.answers import assert_problem
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from stage.running import RunningStage

pytestmark = pytest.mark.xdist_group("broken_stage")

SETTINGS = "/*/*/throttling/"


@pytest.fixture
def stage(altered_stage: RunningStage) -> Iterator[RunningStage]:
    """The stage with one request per second and a burst of two."""
    described = altered_stage.description
    gateway = altered_stage.client("apigateway")
    where = {"restApiId": described.apiUrl.split("/restapis/")[1].split("/")[0], "stageName": described.stage}
    usual = gateway.get_stage(**where)["methodSettings"]["*/*"]

    def limit(rate: float, burst: int) -> None:
        operations = [
            {"op": "replace", "path": f"{SETTINGS}{name}", "value": str(value)}
            for name, value in (("rateLimit", rate), ("burstLimit", burst))
        ]
        gateway.update_stage(**where, patchOperations=operations)

    limit(1, 2)
    yield altered_stage
    limit(usual["throttlingRateLimit"], usual["throttlingBurstLimit"])


def test_too_many_requests_are_a_429_with_retry_after(stage: RunningStage) -> None:
    # Given a stage that allows one request per second
    ann = stage.person("ann")

    # When a client submits without a pause
    def submit() -> httpx.Response | None:
        answer = ann.submit({})
        return answer if answer.status_code != 202 else None

    refused = until(submit, "a request too many", 10)

    # Then it is told to wait, and for how long
    assert_problem(refused, 429, "too-many-requests", stage)
    assert int(refused.headers["Retry-After"]) >= 1

    # And after a while it is served again
    until(lambda: ann.submit({}).status_code == 202, "a request that is served", 10)
