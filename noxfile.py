"""Every task of the project: ``uvx nox -l`` lists them, ``uvx nox -s NAME`` runs one."""

from __future__ import annotations


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
    """Renew the hashed requirement files from the packages' own requirements (-- --upgrade for newer versions)."""
    export = ["uv", "export", "--quiet", "--no-emit-workspace", "--no-annotate", "--no-header"]
    # uv.lock stays out of git, so start from what is committed unless newer versions are asked for.
    session.run("uv", "lock", *session.posargs, external=True)
    session.run(*export, "--all-groups", "--output-file", "requirements/dev.txt", external=True)
    session.run(
        *(*export, "--package", "sluice-handlers", "--no-dev", "--output-file", "requirements/lambda.txt"),
        external=True,
    )


@nox.session(default=False, venv_backend="none")
def clean(session: nox.Session) -> None:
    """Remove everything that sessions have built."""
    for folder in ("build", "packages/infra/node_modules"):
        session.run("python", "-c", f"import shutil; shutil.rmtree({folder!r}, ignore_errors=True)", external=True)
