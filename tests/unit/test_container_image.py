"""The image recipe: what it pins, whom it runs as, and that its steps make a container's Python that works.

Nothing here can run a Dockerfile. Its steps are read from it, and done by this machine's Python and uv.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluice_core import run_job
from sluice_harness.description import ROOT

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = (ROOT / "Dockerfile").read_text()
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()
DOCS = (ROOT / "docs" / "containers.md").read_text()
INSTALLED = "/opt/sluice"
AARCH64 = 183  # e_machine, ELF's e_ident being 16 bytes and e_type two
UNCHECKED_HASH = 0b01  # PEP 552


@dataclass(frozen=True)
class Stage:
    """One FROM and what follows it, as pairs of instruction and arguments."""

    image: str
    name: str
    steps: list[tuple[str, str]]

    def all(self, instruction: str) -> list[str]:
        return [arguments for name, arguments in self.steps if name == instruction]


def stages() -> list[Stage]:
    """Read the recipe (Dockerfile reference, "Format": comments are whole lines, a backslash joins lines)."""
    text = re.sub(r"\\\n\s*", "", "\n".join(line for line in RECIPE.splitlines() if not line.startswith("#")))
    found: list[Stage] = []
    for line in filter(None, text.splitlines()):
        instruction, arguments = line.split(maxsplit=1)
        if instruction == "FROM":
            image, *name = arguments.split(" AS ")
            found.append(Stage(image, "".join(name), []))
        else:
            found[-1].steps.append((instruction, arguments))
    return found


BASE, BUILD, FINAL = stages()


def ran(*command: str, **environment: str) -> str:
    done = subprocess.run(command, env=environment or None, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def install(folder: Path, *platform: str) -> Path:
    """Do the steps of the build below a folder; returns what the final stage copies."""
    built = folder / INSTALLED.removeprefix("/")
    for instruction, arguments in BUILD.steps:
        words = [re.sub("^/", f"{folder}/", word) for word in shlex.split(arguments)]
        match instruction, words:
            case "COPY", [source, target] if (ROOT / source).is_dir():
                skip = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, target, ignore=skip, dirs_exist_ok=True)
            case "COPY", [source, target]:
                (folder / target).mkdir(parents=True)
                shutil.copy(ROOT / source, target)
            case "RUN", ["python", "-m", "pip", "install", *options]:
                named = [one for one in options if one not in PIP_ONLY]
                ran("uv", "pip", "install", "--quiet", *platform, *named)
            case "RUN", ["python", "-m", "compileall", *options]:
                ran(sys.executable, "-m", "compileall", *options)
            case step:
                raise AssertionError(f"this test does not know the step {step}")
    return built


# What uv does without being told, and would not understand.
PIP_ONLY = {"--no-compile", "--no-cache-dir", "--disable-pip-version-check", "--root-user-action", "ignore"}


def test_the_base_image_is_pinned_by_digest_and_named_once() -> None:
    # Given all images that come from elsewhere
    own = {BASE.name, BUILD.name}
    (image,) = [stage.image for stage in (BASE, BUILD, FINAL) if stage.image not in own]

    # Then there is one, by its digest, with the Python that the functions run on, too
    assert re.fullmatch(r"python:3\.13\.\d+-slim-\w+@sha256:[0-9a-f]{64}", image)


def test_nothing_is_installed_that_is_not_pinned() -> None:
    # Given the steps that run something
    (install_step,) = [step for step in BUILD.all("RUN") if "install" in step]

    # Then only the build runs any, pip checks hashes and runs nobody's code, and nothing else installs anything
    assert BASE.steps == []
    assert FINAL.all("RUN") == []
    assert install_step.startswith("python -m pip install --require-hashes --no-deps --only-binary :all: ")
    assert "--requirement /build/container.txt" in install_step
    assert not re.search(r"\b(apt|apt-get|curl|wget|ARG|ADD)\b", " ".join(map(str, BUILD.steps + FINAL.steps)))


def test_it_does_not_run_as_root() -> None:
    (user,) = FINAL.all("USER")
    assert re.fullmatch(r"([1-9]\d*):([1-9]\d*)", user)
    assert [name for name, _ in FINAL.steps].index("USER") < [name for name, _ in FINAL.steps].index("CMD")


def test_what_is_not_copied_is_not_even_sent_to_the_builder() -> None:
    # Given what the recipe copies from this checkout
    copied = {arguments.split()[0].rstrip("/") for arguments in BUILD.all("COPY")}

    # Then nothing else may be in a build's context: no secrets, no history
    assert next(line for line in IGNORED if not line.startswith("#")) == "*"
    assert {line.removeprefix("!") for line in IGNORED if line.startswith("!")} == copied


def test_the_steps_make_a_python_that_runs_jobs(tmp_path: Path) -> None:
    # Given what the steps install, on this machine
    built = install(tmp_path, "--python", sys.executable)
    before = sorted(built.rglob("*"))

    # When the entry point is run in the image's environment, without any other packages
    environment = dict(pair.split("=", 1) for pair in " ".join(FINAL.all("ENV")).split())
    assert environment["PYTHONPATH"] == INSTALLED
    assert FINAL.all("ENTRYPOINT") == []
    python, *arguments = json.loads(*FINAL.all("CMD"))  # a list: a line would be a shell's, which keeps SIGTERM
    assert python == "python"
    said = ran(sys.executable, "-S", *arguments, "--help", **environment | {"PYTHONPATH": str(built)})

    # Then it works, and writes nothing, as a root filesystem that is read-only demands
    assert "SLUICE_JOB_ID" in said
    assert sorted(built.rglob("*")) == before
    # and has its bytecode, which no checkout's times make stale
    (code,) = (built / "sluice_core" / "__pycache__").glob("run_job.*.pyc")
    assert code.read_bytes()[4] == UNCHECKED_HASH


def test_every_package_has_a_wheel_for_graviton(tmp_path: Path) -> None:
    built = install(tmp_path, "--python-platform", "aarch64-manylinux2014", "--python-version", "3.13")

    libraries = list(built.rglob("*.so"))
    assert libraries
    assert {int.from_bytes(one.read_bytes()[18:20], "little") for one in libraries} == {AARCH64}


def test_the_guide_names_the_platform_and_every_setting() -> None:
    assert "docker build --platform linux/arm64" in DOCS
    names = [*run_job.OF_THE_STAGE, *run_job.OF_THE_JOB]
    assert [one for one in names if f"`{one}`" not in DOCS] == []
    assert [code for code in run_job.EXIT_CODES if f"| {code} |" not in DOCS] == []
