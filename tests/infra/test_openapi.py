"""`docs/openapi.yaml` is what the present code makes of core's tables and the prod stage's template."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from sluice_harness.openapi.document import FILE, as_yaml, document
from sluice_harness.openapi.template import Api, read_api

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.assemblies import Assembly

pytestmark = pytest.mark.xdist_group("infra")


@pytest.fixture(scope="module")
def api(synthesized: Callable[[str], Assembly]) -> Api:
    return read_api(synthesized("prod").folder)


def test_the_committed_file_is_up_to_date(api: Api) -> None:
    if as_yaml(document(api)) != FILE.read_text():
        pytest.fail("docs/openapi.yaml is not what the code makes of it: run `uvx nox -s openapi`", pytrace=False)


def test_a_call_that_nobody_has_described_is_named(api: Api) -> None:
    # Given a template with a call more
    more = {**api.methods, ("PUT", "/submit-job"): api.methods["POST", "/submit-job"]}

    # When its document is made, then the error says which it is
    with pytest.raises(ValueError, match=r"not in both: \[\('PUT', '/submit-job'\)\]"):
        document(dataclasses.replace(api, methods=more))


def test_what_the_gateway_answers_follows_from_the_method(api: Api) -> None:
    # Given a submission's method, and the same without what looks at its body
    method = api.methods["POST", "/submit-job"]
    careless = {name: value for name, value in method.items() if name != "RequestValidatorId"}
    careless["Integration"] = {**method["Integration"], "PassthroughBehavior": "WHEN_NO_MATCH"}

    # Then it does not refuse what it does not look at, but for what SQS refuses
    assert {refusal.status for refusal in api.refusals(method)} == {400, 401, 403, 413, 415, 429, 500, 503, 504}
    assert {refusal.status for refusal in api.refusals(careless)} == {400, 401, 403, 413, 429, 500, 503, 504}
    assert sum(refusal.status == 400 for refusal in api.refusals(method)) == 2
    assert sum(refusal.status == 400 for refusal in api.refusals(careless)) == 1
