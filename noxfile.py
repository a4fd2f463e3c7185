"""Every task of the project: ``uvx nox -l`` lists them, ``uvx nox -s NAME`` runs one."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "typecheck", "test"]

_PACKAGES = ["core", "handlers", "infra", "harness"]
# One environment for all sessions, where editors look for it too: on the Python that runs nox.
_VENV = Path(__file__).parent / ".venv"
_UV = os.environ.get("UV", "uv")
_NPM = str(_VENV / "bin" / "npm")
_NODE_ON_PATH = {"PATH": f"{_VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"}
# Tools that only look at what is locked, so the lock does not hold them.
_PIP_AUDIT = ["tool", "run", "--from", "pip-audit==2.10.1", "pip-audit"]
_CYCLONEDX = ["tool", "run", "--from", "cyclonedx-bom==7.5.0", "cyclonedx-py"]


@functools.cache  # once a session is enough
def _install(session: nox.Session) -> None:
    """Bring the environment to the locked versions, with the four packages editable; quick when it is already."""
    settings = _VENV / "pyvenv.cfg"
    if not settings.exists() or f"version_info = {platform.python_version()}" not in settings.read_text():
        session.run(_UV, "venv", "--quiet", "--clear", "--python", sys.executable, str(_VENV), external=True)
    install = [_UV, "pip", "install", "--quiet", "--python", str(_VENV)]
    session.run(*install, "--require-hashes", "--requirement", "requirements/dev.txt", external=True)
    editable = [part for name in _PACKAGES for part in ("--editable", f"packages/{name}")]
    session.run(*install, "--no-deps", *editable, external=True)


def _run(session: nox.Session, command: str, *arguments: str) -> None:
    """Run a command of the environment."""
    _install(session)
    session.run(str(_VENV / "bin" / command), *arguments, external=True)


@nox.session
def demo(session: nox.Session) -> None:
    """Bring the local stage up, run jobs through it over HTTP and print what happened (-- --jobs N)."""
    _run(session, "python", "-m", "sluice_harness.demo", *session.posargs)


@nox.session(default=False)
def local(session: nox.Session) -> None:
    """Keep the local stage up until Ctrl-C, with curl lines to paste (-- --port N)."""
    _run(session, "python", "-m", "sluice_harness.local", *session.posargs)


@nox.session(default=False)
def deploy(session: nox.Session) -> None:
    """Deploy a stage, ask before it costs anything, and run a job on it (-- --stage NAME --yes --on LOCAL)."""
    _run(session, "python", "-m", "sluice_harness.deploy", "deploy", *session.posargs)


@nox.session(default=False)
def diff(session: nox.Session) -> None:
    """Show what a deployment of a stage would change (-- --stage NAME --on LOCAL)."""
    _run(session, "python", "-m", "sluice_harness.deploy", "diff", *session.posargs)


@nox.session(default=False)
def describe(session: nox.Session) -> None:
    """Write build/stages/NAME.json for a stage that is deployed already (-- --stage NAME --on LOCAL)."""
    _run(session, "python", "-m", "sluice_harness.deploy", "describe", *session.posargs)


@nox.session(default=False)
def integration(session: nox.Session) -> None:
    """Test a stage that is deployed, as its clients see it and as its operators do (-- --stage NAME)."""
    _run(session, "pytest", "tests/deployed", *session.posargs)


@nox.session(default=False)
def smoke(session: nox.Session) -> None:
    """Run one job on a stage that is deployed, from submission to download (-- --stage NAME --on LOCAL)."""
    _run(session, "python", "-m", "sluice_harness.deploy", "smoke", *session.posargs)


@nox.session(default=False)
def pipeline(session: nox.Session) -> None:
    """Deploy what brings each commit to production (-- --deploy --repository O/N --connection ARN | --github)."""
    _run(session, "python", "-m", "sluice_harness.deploy.pipeline", *session.posargs)


@nox.session(default=False)
def destroy(session: nox.Session) -> None:
    """Delete a stage and all that it holds, after asking (-- --stage NAME --yes --on LOCAL)."""
    _run(session, "python", "-m", "sluice_harness.deploy", "destroy", *session.posargs)


@nox.session(default=False)
def package(session: nox.Session) -> None:
    """Write dist/: Sluice as a template, zips and a script, for use without the CDK (-- --target T --out DIR)."""
    _run(session, "python", "-m", "sluice_harness.package", *session.posargs)


@nox.session(default=False)
def chaos(session: nox.Session) -> None:
    """Run jobs through the local stage while everything fails, and audit it (-- --jobs N --seed S --minutes M)."""
    _run(session, "python", "-m", "sluice_harness.chaos.session", *session.posargs)


@nox.session(default=False)
def drill(session: nox.Session) -> None:
    """Break a local stage once for every alarm, and see each fire and stop (-- --stage longwork --only NAME)."""
    _run(session, "python", "-m", "sluice_harness.drill", *session.posargs)


@nox.session(default=False)
def review(session: nox.Session) -> None:
    """Write one HTML file on a stage, to be opened offline (-- --stage NAME --jobs N --hours H --out FILE)."""
    _run(session, "python", "-m", "sluice_harness.review", *session.posargs)


@nox.session(default=False)
def loadtest(session: nox.Session) -> None:
    """Run a scenario of load on a stage and judge it (-- --scenario S --jobs N --rate R --stage NAME)."""
    _run(session, "python", "-m", "sluice_harness.loadtest", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure what a job costs, each figure beside its target (-- --jobs N --only cold,warm,wire,throughput)."""
    _run(session, "python", "-m", "sluice_harness.bench", *session.posargs)


@nox.session
def test(session: nox.Session) -> None:
    """Run every test in parallel, the local-stage tests among them (-- arguments of pytest)."""
    # One process more than there are cores: tests on a stage wait as long as they work.
    processes = str((os.cpu_count() or 1) + 1)
    # In the order of tests/conftest.py.
    schedule = ["--numprocesses", processes, "--dist", "loadgroup", "--no-loadscope-reorder"]
    _run(session, "pytest", *schedule, *session.posargs)


@nox.session(default=False)
def longwork(session: nox.Session) -> None:
    """Prove the executors of long work in full, with hundreds of jobs (-- arguments of pytest)."""
    proofs = [f"tests/stage/test_{name}.py" for name in ("containers", "workflows", "switching", "drill")]
    _run(session, "pytest", "--full", *proofs, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format (-- --fix mends what can be mended)."""
    _run(session, "ruff", "check", *session.posargs)
    _run(session, "ruff", "format", *([] if "--fix" in session.posargs else ["--check"]))


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check types, strictly."""
    _run(session, "mypy", *session.posargs)


@nox.session(default=False)
def synth(session: nox.Session) -> None:
    """Synthesize a stage's templates into build/cdk.out/STAGE (-- STAGE, default dev)."""
    stage = session.posargs[0] if session.posargs else "dev"
    _run(session, "python", "-m", "sluice_harness.cdk_cli", stage)


@nox.session(default=False)
def openapi(session: nox.Session) -> None:
    """Write docs/openapi.yaml as the present code has it."""
    _run(session, "python", "-m", "sluice_harness.openapi")


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Bring the hashed requirement files up to the packages' requirements (-- --upgrade for newer versions).

    Not uv.lock, which carries download addresses.
    """
    compile_ = [_UV, "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--python-version", "3.11"]
    compile_ += ["--no-annotate", "--no-header", *session.posargs]
    for name in _PACKAGES:
        compile_ += ["--no-emit-package", f"sluice-{name}"]
    projects = [f"packages/{name}/pyproject.toml" for name in _PACKAGES]
    groups = [part for name in ("test", "lint", "typecheck", "loadtest") for part in ("--group", name)]
    session.run(*compile_, *projects, *groups, "--output-file", "requirements/dev.txt", external=True)
    # What is shipped is what was tested: the same versions.
    for package, name in (("handlers", "lambda"), ("core", "container")):
        shipped = ["--constraints", "requirements/dev.txt", "--output-file", f"requirements/{name}.txt"]
        session.run(*compile_, f"packages/{package}/pyproject.toml", *shipped, external=True)


@nox.session(default=False)
def audit(session: nox.Session) -> None:
    """Look all locked versions up among PyPI's and npm's known vulnerabilities, which takes the network."""
    _install(session)
    # Strict: what could not be looked up counts as a finding, not as clean.
    look_up = [*_PIP_AUDIT, "--strict", "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    locks = [
        part for lock in ("lambda", "container", "dev") for part in ("--requirement", f"requirements/{lock}.txt")
    ]
    session.run(_UV, *look_up, *locks, external=True)
    for package in ("infra", "harness"):
        with session.chdir(f"packages/{package}"):
            session.run(_NPM, "audit", "--package-lock-only", env=_NODE_ON_PATH, external=True)


@nox.session(default=False)
def sbom(session: nox.Session) -> None:
    """Write build/sbom/*.cdx.json: what functions and containers ship, what builds and tests, what npm brings."""
    _install(session)
    folder = Path("build/sbom").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    folders = {"lambda": "packages/handlers", "container": "packages/core", "dev": "."}
    for lock, of in folders.items():
        about = ["--output-reproducible", "--pyproject", f"{of}/pyproject.toml"]
        about += ["--output-file", f"{folder}/{lock}.cdx.json"]
        session.run(_UV, *_CYCLONEDX, "requirements", *about, f"requirements/{lock}.txt", external=True)
    for package in ("infra", "harness"):
        of_lock = ["sbom", "--package-lock-only", "--sbom-format", "cyclonedx"]
        with session.chdir(f"packages/{package}"), (folder / f"npm-{package}.cdx.json").open("w") as output:
            session.run(_NPM, *of_lock, env=_NODE_ON_PATH, stdout=output, stderr=sys.stderr, external=True)


@nox.session(default=False)
def clean(session: nox.Session) -> None:
    """Remove everything that sessions have built."""
    for folder in ("build", "dist", "packages/infra/node_modules", "packages/harness/node_modules"):
        shutil.rmtree(folder, ignore_errors=True)
        session.log(f"removed {folder}")
