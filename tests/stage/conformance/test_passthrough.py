"""`passthroughBehavior` decides on content types without a template."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from stage.conformance import apis

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine


@pytest.fixture(scope="module")
def api(engine: Engine) -> apis.Api:
    return apis.deploy(engine, apis.mock("ok") | {"PassthroughBehavior": "NEVER"})


@pytest.mark.parametrize("declared", ["text/plain", "application/xml", "application/jsonx", "*/*"])
def test_never_refuses_a_type_without_a_template(api: apis.Api, declared: str) -> None:
    # given NEVER and a template for application/json, when another type comes
    answer = api.post("{}", headers={"Content-Type": declared})

    # then it is an unsupported media type
    assert answer.status_code == 415
    assert answer.json() == {"message": "Unsupported Media Type"}


@pytest.mark.parametrize("declared", ["application/json; charset=utf-8", "APPLICATION/JSON", ""])
def test_never_takes_the_type_of_its_template(api: apis.Api, declared: str) -> None:
    # given NEVER and a template for application/json
    # when that type comes, or none, which counts as that type, then it passes
    assert api.post("{}", headers={"Content-Type": declared}).text == "ok"


def test_never_without_templates_refuses_everything(engine: Engine) -> None:
    # given NEVER and no template, when JSON comes, then it is refused
    integration = apis.mock("ok") | {"PassthroughBehavior": "NEVER", "RequestTemplates": {}}
    assert apis.deploy(engine, integration).post("{}").status_code == 415


@pytest.mark.parametrize(("behavior", "status"), [("WHEN_NO_TEMPLATES", 415), ("WHEN_NO_MATCH", 200)])
def test_the_other_behaviors(engine: Engine, behavior: str, status: int) -> None:
    # given a template for JSON, when another type comes, then only WHEN_NO_MATCH passes it through
    api = apis.deploy(engine, apis.mock("ok") | {"PassthroughBehavior": behavior})
    assert api.post('{"statusCode": 200}', headers={"Content-Type": "text/plain"}).status_code == status
