"""The scenarios of load tests, as ``loadtests/scenarios.toml`` has them; that file says what each key means."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

KINDS = ("submitter", "forgetter", "poison", "poller", "lister", "hostile")
THRESHOLDS = (
    *("submit_p50_ms", "submit_p95_ms", "submit_p99_ms", "visible_p95_ms", "queue_wait_p95_ms", "run_p95_ms"),
    *("end_to_end_p50_ms", "end_to_end_p95_ms", "end_to_end_p99_ms", "download_p95_ms"),
    *("unexpected_answers_share", "completions_per_s", "submissions_per_s", "quiet_p95_ratio"),
)
_SHARES_MAY_BE_OFF = 1e-6


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the run: for so many seconds, so many times the base rate."""

    seconds: float
    rate: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a measured value has to keep; exactly one of the two bounds is given."""

    name: str
    at_most: float | None = None
    at_least: float | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario.

    Attributes
    ----------
    jobs : int
        Submissions that must at least be accepted.
    rate : float
        Submissions per second at the base level; 0 is as fast as they are answered.
    users : mapping
        Shares of what users do, by kind; they add up to 1.
    noisy_share : float or None
        The first owner's share of all submissions, after a baseline without it.
    expected_alarms, allowed_alarms : frozenset of str
        Names without the stage's prefix.

    """

    name: str
    about: str
    jobs: int
    rate: float
    stages: tuple[Stage, ...]
    users: Mapping[str, float]
    owners: int
    skew: float | None
    noisy_share: float | None
    expected_alarms: frozenset[str]
    allowed_alarms: frozenset[str]
    malformed_messages: int
    thresholds: tuple[Threshold, ...]


def load_scenarios(path: Path) -> dict[str, Scenario]:
    """Read a file of scenarios, by name.

    Raises
    ------
    ValueError
        It cannot be read, or something in it is missing, unknown or makes no sense; the message says where.

    """
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
    return {name: _Reader(f"{path.name}: [{name}]", table).scenario(name) for name, table in tables.items()}


class _Reader:
    """Reads one table, and says where what is wrong."""

    def __init__(self, place: str, table: Any) -> None:
        self._place = place
        self._table = dict(table) if isinstance(table, dict) else {}
        if not self._table:
            raise ValueError(f"{place} is no scenario: give it about, jobs, rate, stages, users, owners")

    def scenario(self, name: str) -> Scenario:
        take = self._take
        alarms = take("alarms", _alarms, {})
        scenario = Scenario(
            name=name,
            about=take("about", str),
            jobs=take("jobs", _at_least(1, int)),
            rate=take("rate", _at_least(0, float)),
            stages=take("stages", _stages),
            users=take("users", _users),
            owners=take("owners", _at_least(1, int)),
            skew=take("skew", _at_least(0, float), None),
            noisy_share=take("noisy_share", _share, None),
            expected_alarms=alarms["expected"],
            allowed_alarms=alarms["allowed"],
            malformed_messages=take("malformed_messages", _at_least(0, int), 0),
            thresholds=take("thresholds", _thresholds, {}),
        )
        if self._table:
            raise ValueError(f"{self._place}: there is no key {', '.join(self._table)}; the file's head lists all")
        self._check(scenario)
        return scenario

    def _take(self, key: str, read: Callable[[Any], Any], *default: Any) -> Any:
        if key not in self._table and default:
            return None if default[0] is None else read(default[0])
        try:
            return read(self._table.pop(key))
        except KeyError:
            raise ValueError(f"{self._place}: {key} is missing") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{self._place} {key}: {error}") from error

    def _check(self, scenario: Scenario) -> None:
        if scenario.rate and not scenario.stages:
            raise ValueError(f"{self._place}: a rate needs stages, such as [{{ seconds = 60, rate = 1.0 }}]")
        if scenario.noisy_share is not None and (scenario.owners < 2 or len(scenario.stages) < 2):  # noqa: PLR2004
            raise ValueError(f"{self._place}: noisy_share needs two owners and two stages, the first a baseline")


def _at_least(least: int, kind: type[Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float) or value < least or kind(value) != value:
            raise ValueError(f"give {'a whole number' if kind is int else 'a number'} of at least {least}")
        return kind(value)

    return read


def _share(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 < value < 1:
        raise ValueError("give a number between 0 and 1")
    return float(value)


def _stages(value: Any) -> tuple[Stage, ...]:
    stages = tuple(Stage(**one) for one in value)
    if any(stage.seconds <= 0 or stage.rate <= 0 for stage in stages):
        raise ValueError("each stage has seconds and a rate, both above 0")
    return stages


def _users(value: Any) -> dict[str, float]:
    if unknown := value.keys() - set(KINDS):
        raise ValueError(f"there is no kind {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    if abs(sum(value.values()) - 1) > _SHARES_MAY_BE_OFF:
        raise ValueError(f"the shares add up to {sum(value.values()):g} and not to 1")
    return {kind: float(share) for kind, share in value.items()}


def _alarms(value: Any) -> dict[str, frozenset[str]]:
    if unknown := value.keys() - {"expected", "allowed"}:
        raise ValueError(f"give expected and allowed, not {', '.join(sorted(unknown))}")
    return {key: frozenset(map(str, value.get(key, []))) for key in ("expected", "allowed")}


def _thresholds(value: Any) -> tuple[Threshold, ...]:
    if unknown := value.keys() - set(THRESHOLDS):
        raise ValueError(f"nothing measures {', '.join(sorted(unknown))}; there are {', '.join(THRESHOLDS)}")
    thresholds = tuple(Threshold(name, **bounds) for name, bounds in value.items())
    for one in thresholds:
        if (one.at_most is None) == (one.at_least is None):
            raise ValueError(f"{one.name}: give either at_most or at_least")
    return thresholds
