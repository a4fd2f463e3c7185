"""The layering rule (docs, "Layout"): who may import whom among the four packages."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = Path(__file__).parents[2] / "packages"
OURS = {"core": "sluice_core", "handlers": "sluice_handlers", "infra": "sluice_infra", "harness": "sluice_harness"}
SOURCES = {name: sorted((PACKAGES / name / "src" / package).rglob("*.py")) for name, package in OURS.items()}

MAY_IMPORT = {
    "core": set(),
    "handlers": {"sluice_core"},
    "infra": {"sluice_core"},
    "harness": {"sluice_core"},
}
# Names that templates and stacks share with the functions; none of these runs in infra.
INFRA_MAY_IMPORT = {
    *("LIVE_ALIAS", "callers", "executors", "identity", "jobs", "metrics", "problems", "requests", "rows"),
    "workloads",
}
MOST_LINES = 400


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that the code imports, anywhere, by its full name; of ``from a import b`` both a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide which package is meant"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parsed(source: Path) -> ast.Module:
    return ast.parse(source.read_text(), str(source))


def at_run_time(tree: ast.Module) -> ast.Module:
    """The module without what only type checkers see."""

    class Runtime(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
            return node.orelse if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)

    runtime = Runtime().visit(tree)
    assert isinstance(runtime, ast.Module)
    return runtime


@pytest.mark.parametrize("package", OURS)
def test_packages_import_only_those_below_them(package: str) -> None:
    # given the packages that this one must not know
    forbidden = set(OURS.values()) - {OURS[package]} - MAY_IMPORT[package]

    # when its imports are read, for types included
    found = {
        f"{source.name}: {name}"
        for source in SOURCES[package]
        for name in imports(parsed(source))
        if name.partition(".")[0] in forbidden
    }

    # then there is none of them
    assert SOURCES[package]
    assert found == set()


def test_infra_imports_only_shared_names_from_core() -> None:
    # given what infra imports from core
    names = {
        name.split(".")[1]
        for source in SOURCES["infra"]
        for name in imports(parsed(source))
        if name.startswith("sluice_core.")
    }

    # then those are modules of names and schemas
    assert names
    assert names <= INFRA_MAY_IMPORT


def test_the_authorizer_reaches_no_aws_sdk() -> None:
    # given the authorizer and all of ours that it imports, directly or not, at run time
    modules = {
        ".".join(source.relative_to(PACKAGES / package / "src").with_suffix("").parts): source
        for package in ("core", "handlers")
        for source in SOURCES[package]
    }
    waiting, reached = ["sluice_handlers.authorizer"], {}
    while waiting:
        name = waiting.pop()
        if name in modules and name not in reached:
            reached[name] = set(imports(at_run_time(parsed(modules[name]))))
            waiting += reached[name]

    # then none of them imports the SDK, which would double the cold start
    assert len(reached) > 2
    sdk = {name for names in reached.values() for name in names if name.split(".")[0] in {"boto3", "botocore"}}
    assert sdk == set()


def test_no_source_file_is_longer_than_a_person_reads() -> None:
    lengths = {source.name: len(source.read_text().splitlines()) for paths in SOURCES.values() for source in paths}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}
