"""Every task of the project: ``uvx nox -l`` lists them, ``uvx nox -s NAME`` runs one."""

from __future__ import annotations

import shutil

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "typecheck", "test"]

_PACKAGES = ["core", "handlers", "infra", "harness"]
# One environment for all sessions, where editors look for it too.
_VENV = ".venv"


def _install(session: nox.Session) -> None:
    """Bring the environment to the locked versions, with the four packages editable; quick when it is already."""
    session.install("--quiet", "--require-hashes", "--requirement", "requirements/dev.txt")
    session.install(
        "--quiet", "--no-deps", *(part for name in _PACKAGES for part in ("--editable", f"packages/{name}"))
    )


@nox.session(venv_location=_VENV)
def demo(session: nox.Session) -> None:
    """Bring the local stage up, run jobs through it over HTTP and print what happened (-- --jobs N)."""
    _install(session)
    session.run("python", "-m", "sluice_harness.demo", *session.posargs)


@nox.session(venv_location=_VENV, default=False)
def local(session: nox.Session) -> None:
    """Keep the local stage up until Ctrl-C, with curl lines to paste (-- --port N)."""
    _install(session)
    session.run("python", "-m", "sluice_harness.local", *session.posargs)


@nox.session(venv_location=_VENV)
def test(session: nox.Session) -> None:
    """Run every test in parallel, the local-stage tests among them (-- arguments of pytest)."""
    _install(session)
    session.run("pytest", "--numprocesses", "auto", "--dist", "loadgroup", *session.posargs)


@nox.session(venv_location=_VENV)
def lint(session: nox.Session) -> None:
    """Check style and format (-- --fix mends what can be mended)."""
    _install(session)
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", *([] if "--fix" in session.posargs else ["--check"]))


@nox.session(venv_location=_VENV)
def typecheck(session: nox.Session) -> None:
    """Check types, strictly."""
    _install(session)
    session.run("mypy", *session.posargs)


@nox.session(venv_location=_VENV, default=False)
def synth(session: nox.Session) -> None:
    """Synthesize a stage's templates into build/cdk.out/STAGE (-- STAGE, default dev)."""
    _install(session)
    stage = session.posargs[0] if session.posargs else "dev"
    session.run("python", "-m", "sluice_harness.cdk_cli", stage)


@nox.session(default=False, venv_backend="none")
def lock(session: nox.Session) -> None:
    """Bring the hashed requirement files up to the packages' requirements (-- --upgrade for newer versions).

    Not uv.lock, which carries download addresses.
    """
    compile_ = ["uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--python-version", "3.11"]
    compile_ += ["--no-annotate", "--no-header", *session.posargs]
    for name in _PACKAGES:
        compile_ += ["--no-emit-package", f"sluice-{name}"]
    projects = [f"packages/{name}/pyproject.toml" for name in _PACKAGES]
    groups = [part for name in ("test", "lint", "typecheck", "loadtest") for part in ("--group", name)]
    session.run(*compile_, *projects, *groups, "--output-file", "requirements/dev.txt", external=True)
    # What is shipped is what was tested: the same versions.
    shipped = ["--constraints", "requirements/dev.txt", "--output-file", "requirements/lambda.txt"]
    session.run(*compile_, "packages/handlers/pyproject.toml", *shipped, external=True)


@nox.session(default=False, venv_backend="none")
def clean(session: nox.Session) -> None:
    """Remove everything that sessions have built."""
    for folder in ("build", "packages/infra/node_modules"):
        shutil.rmtree(folder, ignore_errors=True)
        session.log(f"removed {folder}")
