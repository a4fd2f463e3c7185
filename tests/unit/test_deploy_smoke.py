"""What the smoke test says of a stage that does not take its job."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from sluice_harness.deploy import smoke
from sluice_harness.description import ROOT
from unit import reviewed

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(monkeypatch: pytest.MonkeyPatch, status: int) -> str:
    """Run the smoke test on a stage that answers each submission so; return its error."""

    class Client:
        def __init__(self, *_: object) -> None:
            pass

        def submit(self, job: object) -> httpx.Response:
            assert job == smoke._JOB
            return httpx.Response(status, json={"message": "no"})

        def close(self) -> None:
            pass

    @contextmanager
    def users(*_: object) -> Iterator[tuple[str]]:
        yield ("user",)

    monkeypatch.setattr(smoke, "JobClient", Client)
    monkeypatch.setattr(smoke, "temporary_users", users)
    with pytest.raises(smoke.SmokeError) as failed:
        smoke.check(reviewed.STAGE, None)
    return str(failed.value)


def test_a_stage_that_refuses_the_job_is_said_to_want_another_with_the_file_and_the_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = check(monkeypatch, 400)
    assert 'answered with 400: {"message":"no"}. If the stage takes no weather-report' in told

    # and both are there
    for place in ("packages/harness/src/sluice_harness/deploy/smoke.py", "docs/replacing-the-weather.md"):
        assert place in told
        assert (ROOT / place).exists()
    assert "## 3. " in (ROOT / "docs/replacing-the-weather.md").read_text()


def test_another_answer_has_nothing_to_do_with_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(monkeypatch, 503) == 'the smoke test\'s job was answered with 503: {"message":"no"}'
