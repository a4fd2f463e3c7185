"""The functions of an assembly: what ships is what is measured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sluice_harness.bench.assembly import Settings, functions, settings

if TYPE_CHECKING:
    from pathlib import Path


def template(folder: Path, name: str, **resources: dict[str, Any]) -> None:
    (folder / f"{name}.template.json").write_text(json.dumps({"Resources": resources}))


def function(handler: str, key: str = "abc.zip", **variables: Any) -> dict[str, Any]:
    properties = {"Handler": handler, "MemorySize": 512, "Code": {"S3Key": key}}
    return {"Type": "AWS::Lambda::Function", "Properties": {**properties, "Environment": {"Variables": variables}}}


def test_our_functions_are_found_with_their_code_and_settings(tmp_path: Path) -> None:
    # given an assembly with one of ours, one of the CDK's and something else
    (tmp_path / "asset.abc").mkdir()
    queue = {"Fn::GetAtt": ["Queue", "Url"]}
    template(
        tmp_path,
        "one",
        Ours=function(
            "sluice_handlers.batch_simulator.handler", STAGE="local", QUEUE_URL=queue, TABLE={"Ref": "T"}
        ),
        Theirs=function("index.handler"),
        Table={"Type": "AWS::DynamoDB::Table"},
    )

    # when it is read
    (found,) = functions(tmp_path)

    # then what only a deployment knows has a placeholder that a client can be made with
    assert (found.name, found.module, found.memory_mb) == (
        "batch-simulator",
        "sluice_handlers.batch_simulator",
        512,
    )
    assert found.code == tmp_path / "asset.abc"
    assert found.environment["STAGE"] == "local"
    assert found.environment["QUEUE_URL"].startswith("https://")
    assert found.environment["TABLE"]


def test_an_assembly_without_functions_is_refused(tmp_path: Path) -> None:
    template(tmp_path, "one", Theirs=function("index.handler"))
    with pytest.raises(ValueError, match="synthesize it again"):
        functions(tmp_path)


def test_code_that_is_not_there_is_said(tmp_path: Path) -> None:
    template(tmp_path, "one", Ours=function("sluice_handlers.processor.handler", key="gone.zip"))
    with pytest.raises(ValueError, match=r"the code of sluice_handlers\.processor is not in"):
        functions(tmp_path)


def rule(rate: float) -> dict[str, Any]:
    return {"Type": "AWS::XRay::SamplingRule", "Properties": {"SamplingRule": {"FixedRate": rate}}}


def test_the_sizes_that_are_paid_for_are_found(tmp_path: Path) -> None:
    (tmp_path / "asset.abc").mkdir()
    template(tmp_path, "one", Ours=function("sluice_handlers.processor.handler"), Rule=rule(0.02))
    assert settings(tmp_path) == Settings({"processor": 512}, 0.02)


def test_an_assembly_that_does_not_say_what_it_traces_is_refused(tmp_path: Path) -> None:
    (tmp_path / "asset.abc").mkdir()
    template(tmp_path, "one", Ours=function("sluice_handlers.processor.handler"))
    with pytest.raises(ValueError, match="0 sampling rules"):
        settings(tmp_path)
