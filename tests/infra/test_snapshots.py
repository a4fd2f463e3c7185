"""What a change does to each stage, line by line: prod's templates whole, the others' as differences from it.

After a change that is meant: ``uvx nox -s test -- tests/infra/test_snapshots.py --snapshot-update``, and the
difference is part of the review.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from infra.assemblies import STAGES
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infra.assemblies import Assembly
    from syrupy.assertion import SnapshotAssertion

pytestmark = pytest.mark.xdist_group("infra")

# What is not written out, because it is a file of its own or changes with every line of code.
_ELSEWHERE = {"DashboardBody": "dashboards/", "QueryString": "dashboards/queries/"}
_HASHES = [(re.compile(r"[0-9a-f]{64}"), "(hash)"), (re.compile(r"(?<=[A-Za-z0-9])[0-9a-f]{32}\b"), "(hash)")]


class Lines(SingleFileSnapshotExtension):
    """A snapshot is a text file, to be read in a diff."""

    _write_mode = WriteMode.TEXT
    file_extension = "txt"


@pytest.fixture
def lines(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(Lines)


def written_out(assembly: Assembly) -> list[str]:
    """Every value of the stage's resources and outputs, one a line; its name and hashes are not told."""
    entries = {**assembly.resources, "Outputs": assembly.outputs}
    found = [
        f"{path} = {value}"
        for logical_id, entry in entries.items()
        if entry.get("Type") != "AWS::CDK::Metadata"
        for path, value in _leaves(logical_id, entry)
    ]
    # The name alone, or in ids that the CDK makes of paths, with a hash at their end.
    named = re.compile(rf"\b{assembly.stage}\b|(?:(?<=Stage)|(?<=sluice)){assembly.stage}(\w+?)?[0-9A-F]{{8}}\b")
    for pattern, instead in [(named, "(stage)"), *_HASHES]:
        found = [pattern.sub(instead, line) for line in found]
    return sorted(found)


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    name = path.rpartition(".")[2]
    if name in {"Metadata", "Tags"}:  # the CDK's notes to itself; the stage's name on everything
        return
    if name in _ELSEWHERE:
        yield path, f"({_ELSEWHERE[name]})"
    elif isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}", inner)
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from _leaves(f"{path}[{index}]", inner)
    else:
        yield path, repr(value)


def test_prod_is_as_it_was(synthesized: Callable[[str], Assembly], lines: SnapshotAssertion) -> None:
    assert "\n".join(written_out(synthesized("prod"))) == lines


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "prod"])
def test_a_stage_differs_from_prod_as_it_did(
    stage: str, synthesized: Callable[[str], Assembly], lines: SnapshotAssertion
) -> None:
    # given what a stage has that prod has not, and the other way round
    prod, other = written_out(synthesized("prod")), written_out(synthesized(stage))
    only = [*(f"- {line}" for line in prod if line not in set(other))]
    only += [f"+ {line}" for line in other if line not in set(prod)]

    # then that is what it was
    assert "\n".join(sorted(only, key=lambda line: (line[2:], line[0]))) == lines
