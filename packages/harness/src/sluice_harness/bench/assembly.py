"""The functions as they are deployed: what the synthesized templates say, and the folder of code that ships."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sluice_harness.engine import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# Stands for what only a deployment knows: a start does nothing with it but keep it.
_UNKNOWN_URL = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/unknown"
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DeployedFunction:
    """One function of an assembly.

    Attributes
    ----------
    name : str
        ``batch-simulator`` for the handler ``sluice_handlers.batch_simulator.handler``.
    code : Path
        The asset's folder: what the CDK CLI zips.
    environment : mapping
        The template's variables; those of other resources are placeholders.

    """

    name: str
    module: str
    code: Path
    memory_mb: int
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is paid for by size: megabytes of each function, and the share of requests traced (0 to 1)."""

    memory_mb: Mapping[str, int]
    trace_rate: float


def settings(assembly: Path) -> Settings:
    """Return the sizes of a synthesized assembly.

    Raises
    ------
    ValueError
        It has none of our functions, or not one sampling rule.

    """
    rules = [one["SamplingRule"] for kind, one in _resources(assembly) if kind == "AWS::XRay::SamplingRule"]
    if len(rules) != 1:
        raise ValueError(f"{assembly} has {len(rules)} sampling rules, not one")
    memory_mb = {one.name: one.memory_mb for one in functions(assembly)}
    return Settings(memory_mb, float(rules[0]["FixedRate"]))


def functions(assembly: Path) -> list[DeployedFunction]:
    """Return the functions of a synthesized assembly that are Sluice's own, by name.

    Raises
    ------
    ValueError
        There are none, or their code is no folder of the assembly.

    """
    found = []
    for kind, properties in _resources(assembly):
        handler = str(properties.get("Handler", ""))
        if kind == "AWS::Lambda::Function" and handler.startswith("sluice_handlers."):
            found.append(_function(assembly, handler.rpartition(".")[0], properties))
    if not found:
        raise ValueError(f"{assembly} has no functions of ours; synthesize it again: `uvx nox -s synth -- local`")
    return sorted(found, key=lambda one: one.name)


def _resources(assembly: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for template in sorted(assembly.glob("*.template.json")):
        for resource in json.loads(template.read_text()).get("Resources", {}).values():
            yield resource["Type"], resource.get("Properties", {})


def _function(assembly: Path, module: str, properties: Mapping[str, Any]) -> DeployedFunction:
    code = assembly / f"asset.{str(properties['Code'].get('S3Key', '')).removesuffix('.zip')}"
    if not code.is_dir():
        raise ValueError(f"the code of {module} is not in {assembly}; synthesize it again")
    variables = properties.get("Environment", {}).get("Variables", {})
    return DeployedFunction(
        name=module.rpartition(".")[2].replace("_", "-"),
        module=module,
        code=code,
        memory_mb=int(properties["MemorySize"]),
        environment={name: _literal(name, value) for name, value in variables.items()},
    )


def _literal(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    return _UNKNOWN_URL if name.endswith("URL") else _UNKNOWN
