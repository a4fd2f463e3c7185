"""The functions' code as it ships: complete, for the right machine, and the same from build to build."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from sluice_infra import bundling

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from infra.assemblies import Assembly

pytestmark = pytest.mark.xdist_group("infra")

HANDLERS = (
    "authorizer",
    "processor",
    "batch_simulator",
    "job_status",
    "cancel_job",
    "sweeper",
    "event_publisher",
)
AARCH64 = 183  # e_machine, ELF's e_ident being 16 bytes and e_type two
UNCHECKED_HASH = 0b01  # PEP 552
PYTHON_3_13 = b"\xf3\r\r\n"

# Nothing but the bundle and the standard library; no site-packages, no user settings.
IMPORT = """
import importlib, json, sys
sys.path.append(sys.argv[1])
module = importlib.import_module(sys.argv[2])
assert callable(module.handler)
print(json.dumps(sorted(name for name, each in sys.modules.items() if each)))
"""


def code(assembly: Assembly, module: str) -> tuple[Path, dict[str, Any]]:
    """The folder that a function ships, and the function."""
    for name, function in assembly.of_type("Lambda::Function").items():
        if function["Handler"] == f"sluice_handlers.{module}.handler":
            return assembly.folder / assembly.resources[name]["Metadata"]["aws:asset:path"], function
    raise LookupError(module)


def imported(folder: Path, function: dict[str, Any]) -> set[str]:
    """Import a handler as Lambda does and return all modules that this loaded."""
    settings = function["Environment"]["Variables"]
    environment = {
        # What CloudFormation fills in is any text here.
        **{name: value if isinstance(value, str) else f"value-of-{name}" for name, value in settings.items()},
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    module = function["Handler"].removesuffix(".handler")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", IMPORT, str(folder), module],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.fixture(scope="session")
def host(synthesized: Callable[[str], Assembly]) -> Path:
    return code(synthesized("local"), "processor")[0]


@pytest.fixture(scope="session")
def arm(synthesized: Callable[[str], Assembly]) -> Path:
    return code(synthesized("prod"), "processor")[0]


def test_these_are_all_handlers(assembly: Assembly) -> None:
    handlers = {function["Handler"] for function in assembly.of_type("Lambda::Function").values()}
    assert handlers == {f"sluice_handlers.{module}.handler" for module in HANDLERS}


def test_all_functions_ship_one_bundle(assembly: Assembly) -> None:
    assert len({code(assembly, module)[0] for module in HANDLERS}) == 1


@pytest.mark.parametrize("module", HANDLERS)
def test_a_handler_needs_nothing_but_its_bundle_and_settings(
    synthesized: Callable[[str], Assembly], module: str
) -> None:
    # given the bundle of the local stage, whose wheels run here, and the settings in its template
    folder, function = code(synthesized("local"), module)

    # then the handler comes up in an interpreter that has nothing else
    assert f"sluice_handlers.{module}" in imported(folder, function)


def test_the_authorizer_loads_no_aws_sdk(synthesized: Callable[[str], Assembly]) -> None:
    # given that every new caller waits for the authorizer's cold start, to which an SDK adds 170 ms
    loaded = imported(*code(synthesized("local"), "authorizer"))

    # then it does without (Powertools asks for botocore's top package, which is next to empty)
    assert [name for name in sorted(loaded) if name.startswith(("boto3", "botocore.", "aws_xray_sdk"))] == []


def test_native_libraries_for_lambda_are_all_arm64(arm: Path) -> None:
    # given every ELF file of the bundle, whatever it is called
    elves = {file: file.read_bytes()[:20] for file in arm.rglob("*") if file.is_file()}
    machines = {
        file.name: int.from_bytes(head[18:20], "little") for file, head in elves.items() if head[:4] == b"\x7fELF"
    }

    # then each is for the functions' architecture
    assert machines
    assert {name: machine for name, machine in machines.items() if machine != AARCH64} == {}


def test_native_libraries_for_lambda_are_for_its_python(arm: Path) -> None:
    for library in arm.rglob("*.so"):
        assert ".abi3." in library.name or ".cpython-313-" in library.name, library.name


def test_every_module_for_this_machine_has_its_bytecode(host: Path) -> None:
    for source in host.rglob("*.py"):
        # given a module and where Python looks for its bytecode
        bytecode = importlib.util.cache_from_source(str(source))

        # then it is there, of this Python, and taken without a look at the source's time
        with open(bytecode, "rb") as file:  # noqa: PTH123 - a missing file names itself
            magic, flags = file.read(4), int.from_bytes(file.read(4), "little")
        assert (magic, flags) == (importlib.util.MAGIC_NUMBER, UNCHECKED_HASH), source.name


def test_bytecode_for_lambda_is_of_its_python(arm: Path) -> None:
    # given the bytecode for Lambda, of which there is none where the synth found no such Python (and said so)
    heads = {file.read_bytes()[:8] for file in arm.rglob("*.pyc")}

    # then Lambda's Python can load it
    assert heads <= {PYTHON_3_13 + UNCHECKED_HASH.to_bytes(4, "little")}


@pytest.mark.parametrize("target", ["host", "arm"])
def test_nothing_in_a_bundle_leads_back_to_this_checkout(request: pytest.FixtureRequest, target: str) -> None:
    # given a bundle
    folder: Path = request.getfixturevalue(target)
    here = str(bundling.ROOT).encode()

    # then no file names a path in this checkout, and none adds one to Python's
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert [file.name for file in files if here in file.read_bytes()] == []
    assert [file.name for file in files if file.suffix in {".pth", ".egg-link"}] == []
    assert (folder / "sluice_core" / "jobs.py").exists()


@pytest.mark.parametrize("target", ["host", "lambda"])
def test_the_same_sources_make_the_same_bundle(target: bundling.Target, tmp_path: Path) -> None:
    # given a bundle, built in one folder
    once = digests(bundling.build(tmp_path / "once", target))

    # when it is built again in another
    again = digests(bundling.build(tmp_path / "elsewhere" / "again", target))

    # then all files are the same, byte for byte
    assert once == again
