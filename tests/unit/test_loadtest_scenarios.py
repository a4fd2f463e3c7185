"""The file of scenarios: the shipped one is read whole, and who writes one of their own is told what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sluice_harness.description import ROOT
from sluice_harness.loadtest.scenarios import Stage, Threshold, load_scenarios

if TYPE_CHECKING:
    from pathlib import Path

_GOOD = """
[small]
about = "a little"
jobs = 5
rate = 1.0
stages = [{ seconds = 5, rate = 1.0 }]
users = { submitter = 1.0 }
owners = 2
[small.thresholds]
submit_p95_ms = { at_most = 500 }
"""


def test_the_shipped_file_has_every_scenario() -> None:
    found = load_scenarios(ROOT / "loadtests" / "scenarios.toml")
    assert set(found) == {"smoke", "steady", "ramp", "spike", "soak", "backlog", "noisy", "poison"}
    assert all(one.thresholds for one in found.values())
    assert found["poison"].malformed_messages > 0
    assert found["noisy"].noisy_share == 0.9


def test_what_is_not_said_has_its_default(tmp_path: Path) -> None:
    file = tmp_path / "scenarios.toml"
    file.write_text(_GOOD)
    small = load_scenarios(file)["small"]
    assert small.stages == (Stage(5, 1.0),)
    assert small.thresholds == (Threshold("submit_p95_ms", at_most=500),)
    assert (small.skew, small.noisy_share, small.malformed_messages) == (None, None, 0)
    assert small.expected_alarms == small.allowed_alarms == frozenset()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("jobs = 5", "", "[small]: jobs is missing"),
        ("jobs = 5", "jobs = 0", "[small] jobs: give a whole number of at least 1"),
        ("jobs = 5", "jobs = 5\njob = 6", "there is no key job"),
        ("rate = 1.0\n", "rate = -1\n", "[small] rate"),
        ("seconds = 5", "second = 5", "[small] stages"),
        ("stages = [{ seconds = 5, rate = 1.0 }]", "stages = []", "a rate needs stages"),
        ("submitter = 1.0", "submitter = 0.5", "add up to 0.5"),
        ("submitter = 1.0", "visitor = 1.0", "there is no kind visitor"),
        ("owners = 2", "owners = 2\nnoisy_share = 0.9", "noisy_share needs two owners and two stages"),
        ("owners = 2", "owners = 2\nalarms = { wanted = [] }", "give expected and allowed"),
        ("submit_p95_ms", "submit_p96_ms", "nothing measures submit_p96_ms"),
        ("at_most = 500", "at_most = 500, at_least = 1", "either at_most or at_least"),
        ("at_most = 500", "", "either at_most or at_least"),
        ("[small]\n", "[small\n", "scenarios.toml"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(before: str, after: str, said: str, tmp_path: Path) -> None:
    # given a file with one thing wrong
    assert before in _GOOD
    file = tmp_path / "scenarios.toml"
    file.write_text(_GOOD.replace(before, after, 1))

    # when it is read, then its reader learns what and where
    with pytest.raises(ValueError, match=r"scenarios\.toml") as raised:
        load_scenarios(file)
    assert said in str(raised.value)
