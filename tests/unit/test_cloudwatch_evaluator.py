"""The evaluator: what it fetches, tells, refuses and remembers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from sluice_harness.cloudwatch.definitions import State
from sluice_harness.cloudwatch.evaluator import AlarmInUse, Evaluator, UnknownAlarm
from unit.alarms import (
    ALARM_TOPIC,
    NOW,
    OK_TOPIC,
    UNKNOWN_TOPIC,
    Samples,
    composite,
    math_alarm,
    metric_alarm,
    stat_entry,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sluice_harness.cloudwatch.definitions import MetricStat, Series

ARN = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:"


@pytest.fixture
def source() -> Samples:
    return Samples()


@pytest.fixture
def evaluator(source: Samples) -> Evaluator:
    return Evaluator(source)


def test_an_alarm_starts_without_data_fires_and_recovers(source: Samples, evaluator: Evaluator) -> None:
    # given an alarm, and a metric that breaches for three minutes
    evaluator.put(metric_alarm())
    assert evaluator.states == {"errors": State.INSUFFICIENT_DATA}
    source.add(NOW - 30, 0)
    for minute, value in enumerate((5, 6, 7, 0)):
        source.add(NOW + minute * 60 + 30, value)
    # when it is evaluated minute by minute
    told = [one for minute in range(5) for one in evaluator.step(NOW + minute * 60)]
    # then it is OK, fires and recovers, and tells each once and whom to notify
    assert [(one.old, one.new, one.at - NOW, one.actions) for one in told] == [
        (State.INSUFFICIENT_DATA, State.OK, 0, (OK_TOPIC,)),
        (State.OK, State.ALARM, 180, (ALARM_TOPIC,)),
        (State.ALARM, State.OK, 240, (OK_TOPIC,)),
    ]
    assert evaluator.history("errors") == told
    assert evaluator.status("errors").transitioned_at == NOW + 240


def test_the_reason_is_in_the_words_of_cloudwatch(source: Samples, evaluator: Evaluator) -> None:
    # given an alarm that fires on three points, and two of five that do not
    evaluator.put(metric_alarm())
    evaluator.put(metric_alarm("slow", MetricName="Age", EvaluationPeriods=5, DatapointsToAlarm=3, Threshold=10))
    for back, errors, age in ((5, 0, 11), (4, 0, 12), (3, 5, 1), (2, 6, 2), (1, 7, 3)):
        source.add(NOW - back * 60, errors)
        source.add(NOW - back * 60, age, metric="Age")
    # when both are evaluated
    fired, fine = evaluator.step(NOW + 1)
    # then their reasons list the points, newest first
    assert fired.reason == (
        "Threshold Crossed: 3 out of the last 3 datapoints [7.0 (24/11/26 14:59:00), 6.0 (24/11/26 14:58:00), "
        "5.0 (24/11/26 14:57:00)] were greater than the threshold (0.0) "
        "(minimum 3 datapoints for OK -> ALARM transition)."
    )
    assert fired.reason_data == {
        "version": "1.0",
        "queryDate": "2026-11-24T15:00:01.000+0000",
        "startDate": "2026-11-24T14:57:00.000+0000",
        "statistic": "Sum",
        "period": 60,
        "recentDatapoints": [5.0, 6.0, 7.0],
        "threshold": 0.0,
        "evaluatedDatapoints": [
            {"timestamp": "2026-11-24T14:59:00.000+0000", "value": 7.0},
            {"timestamp": "2026-11-24T14:58:00.000+0000", "value": 6.0},
            {"timestamp": "2026-11-24T14:57:00.000+0000", "value": 5.0},
        ],
    }
    assert "3 out of the last 5 datapoints [3.0 " in fine.reason
    assert "were not greater than the threshold (10.0) (minimum 3 datapoints for ALARM -> OK" in fine.reason


@pytest.mark.parametrize(
    ("treatment", "values", "reason"),
    [
        (
            "breaching",
            (),
            "no datapoints were received for 3 periods and 3 missing datapoints were treated as [Breaching].",
        ),
        (
            "notBreaching",
            (5,),
            "2 missing datapoints were treated as [NonBreaching].",
        ),
        (
            "missing",
            (0, 5),
            "1 out of the last 2 datapoints [0.0 (24/11/26 14:59:00)] was not greater than the threshold (0.0) "
            "(minimum 1 datapoint for ALARM -> OK transition) and 1 missing datapoint was treated as [Missing].",
        ),
    ],
)
def test_the_reason_tells_what_missing_points_were_treated_as(
    source: Samples, evaluator: Evaluator, treatment: str, values: Sequence[float], reason: str
) -> None:
    evaluator.put(metric_alarm(TreatMissingData=treatment))
    for back, value in enumerate(values, start=1):
        source.add(NOW - back * 60, value)
    (told,) = evaluator.step(NOW)
    assert told.reason == f"Threshold Crossed: {reason}"


def test_an_alarm_whose_data_ends_tells_that(source: Samples, evaluator: Evaluator) -> None:
    evaluator.put(metric_alarm())
    evaluator.set_state("errors", State.OK, "by hand", NOW)
    (told,) = evaluator.step(NOW)
    assert (told.new, told.actions) == (State.INSUFFICIENT_DATA, (UNKNOWN_TOPIC,))
    assert told.reason == "Insufficient Data: 3 datapoints were unknown."
    assert source.calls


def test_a_composite_tells_which_child_made_it_change(source: Samples, evaluator: Evaluator) -> None:
    # given two children in ALARM, of which one has an ARN, and a composite that is new
    for name, more in (("a", {"AlarmArn": f"{ARN}a"}), ("b", {})):
        evaluator.put(metric_alarm(name, TreatMissingData="breaching", **more))
    evaluator.step(NOW)
    evaluator.put(composite("any", "ALARM(a) OR ALARM(b)"))
    # when it is evaluated, and b later recovers and a, too
    (created,) = evaluator.step(NOW + 60)
    source.add(NOW + 70, 0)
    *_children, recovered = evaluator.step(NOW + 120)
    # then its reason is its creation, then its children, the last one named
    assert created.reason == "any was created and its alarm rule evaluates to ALARM"
    assert [one["arn"] for one in created.reason_data["triggeringAlarms"]] == [f"{ARN}a", "b"]
    assert recovered.reason == "b transitioned to OK at Tuesday 24 November, 2026 15:02:00 UTC"
    assert recovered.reason_data["triggeringAlarms"][0] == {
        "arn": f"{ARN}a",
        "state": {"value": "OK", "timestamp": "2026-11-24T15:02:00.000+0000"},
    }


def test_alarms_of_one_period_are_fetched_at_once_and_each_statistic_once(
    source: Samples, evaluator: Evaluator
) -> None:
    # given alarms of one metric and of several, over minutes and over six hours
    for count in (1, 3, 15):
        evaluator.put(metric_alarm(f"errors {count}", EvaluationPeriods=count))
    low = {"Statistic": None, "ExtendedStatistic": "p90", "EvaluateLowSampleCountPercentile": "ignore"}
    evaluator.put(metric_alarm("slow", MetricName="Age", **low))
    entries = [stat_entry("m1", "Errors"), stat_entry("m2", "Age"), {"Id": "e1", "Expression": "m1 + m2"}]
    evaluator.put(math_alarm(metrics=entries))
    evaluator.put(metric_alarm("burn", Period=21600, EvaluationPeriods=1))
    # when they are evaluated
    evaluator.step(NOW + 12.5)
    # then there is one call for each period, as far back as the longest, up to the last full minute
    assert source.calls == [(5, NOW - 17 * 60, NOW), (1, NOW - 3 * 21600, NOW)]


def test_an_alarm_sees_no_further_back_than_its_own_range(source: Samples, evaluator: Evaluator) -> None:
    # given a breach ten minutes ago, and two alarms of which one looks back so far
    source.add(NOW - 600, 5)
    shape: dict[str, Any] = {"DatapointsToAlarm": 1, "TreatMissingData": "notBreaching"}
    evaluator.put(metric_alarm("short", EvaluationPeriods=3, **shape))
    evaluator.put(metric_alarm("long", EvaluationPeriods=15, **shape))
    entries = [stat_entry("m1", "Errors"), {"Id": "e1", "Expression": "SUM(m1)"}]
    evaluator.put(math_alarm(metrics=entries, **shape))
    # when they are evaluated
    evaluator.step(NOW)
    # then only that one fires
    assert evaluator.states == {"short": State.OK, "long": State.ALARM, "rate": State.OK}


def test_a_state_set_by_hand_lasts_until_a_step_finds_another(source: Samples, evaluator: Evaluator) -> None:
    # given an alarm that is OK, and a composite of it
    source.add(NOW - 30, 0)
    evaluator.put(metric_alarm())
    evaluator.put(composite("page", "ALARM(errors)"))
    evaluator.step(NOW)
    # when its state is set, and again the same
    told = evaluator.set_state("errors", State.ALARM, "a test", NOW + 1, {"by": "hand"})
    again = evaluator.set_state("errors", State.ALARM, "another", NOW + 2)
    # then both act at once, once, and a step takes them back
    assert [(one.alarm.name, one.new, one.actions) for one in told] == [
        ("errors", State.ALARM, (ALARM_TOPIC,)),
        ("page", State.ALARM, (ALARM_TOPIC,)),
    ]
    assert (told[0].reason, told[0].reason_data) == ("a test", {"by": "hand"})
    assert (again, evaluator.status("errors").reason) == ([], "another")
    assert [one.new for one in evaluator.step(NOW + 60)] == [State.OK, State.OK]


def test_so_does_one_of_a_composite(evaluator: Evaluator) -> None:
    evaluator.put(composite("page", "FALSE"))
    evaluator.step(NOW)
    told = evaluator.set_state("page", State.ALARM, "a test", NOW + 1)
    assert [one.new for one in told] == [State.ALARM]
    assert [one.new for one in evaluator.step(NOW + 60)] == [State.OK]


def test_an_alarm_that_is_put_again_keeps_its_state_and_history(evaluator: Evaluator) -> None:
    evaluator.put(metric_alarm(TreatMissingData="breaching"))
    evaluator.step(NOW)
    evaluator.put(metric_alarm(TreatMissingData="ignore"))
    assert evaluator.step(NOW + 60) == []
    assert evaluator.states == {"errors": State.ALARM}
    assert len(evaluator.history("errors")) == 1
    evaluator.delete("errors")
    evaluator.put(metric_alarm())
    assert evaluator.status("errors").reason == "Unchecked: Initial alarm creation"


def test_disabled_actions_are_not_taken(evaluator: Evaluator) -> None:
    evaluator.put(metric_alarm(TreatMissingData="breaching", ActionsEnabled=False))
    (told,) = evaluator.step(NOW)
    assert (told.new, told.actions) == (State.ALARM, ())


def test_the_history_keeps_the_last_thousand(evaluator: Evaluator) -> None:
    evaluator.put(metric_alarm())
    for second in range(1001):
        evaluator.set_state("errors", [State.OK, State.ALARM][second % 2], "by hand", NOW + second)
    history = evaluator.history("errors")
    assert (len(history), history[0].at, history[-1].at) == (1000, NOW + 1, NOW + 1000)


@pytest.mark.parametrize(
    "ask",
    [
        lambda evaluator: evaluator.status("none"),
        lambda evaluator: evaluator.history("none"),
        lambda evaluator: evaluator.delete("none"),
        lambda evaluator: evaluator.set_state("none", State.OK, "", NOW),
        lambda evaluator: evaluator.put(composite("all", "ALARM(none)")),
        lambda evaluator: evaluator.put(
            composite(
                "all",
                "TRUE",
                ActionsSuppressor="none",
                ActionsSuppressorWaitPeriod=1,
                ActionsSuppressorExtensionPeriod=1,
            )
        ),
    ],
)
def test_an_alarm_that_is_not_there_is_named(evaluator: Evaluator, ask: Callable[[Evaluator], object]) -> None:
    with pytest.raises(UnknownAlarm, match="none"):
        ask(evaluator)
    assert evaluator.alarms == []


def test_an_alarm_that_is_watched_cannot_be_deleted_before_what_watches_it(evaluator: Evaluator) -> None:
    evaluator.put(metric_alarm())
    evaluator.put(composite("page", "ALARM(errors)"))
    with pytest.raises(AlarmInUse, match="errors cannot be deleted while page watches it"):
        evaluator.delete("errors")
    evaluator.delete("page")
    evaluator.delete("errors")
    assert evaluator.step(NOW) == []


def test_composites_cannot_watch_each_other(evaluator: Evaluator) -> None:
    evaluator.put(composite("a", "TRUE"))
    evaluator.put(composite("b", "ALARM(a)"))
    with pytest.raises(AlarmInUse, match="would watch each other"):
        evaluator.put(composite("a", "ALARM(b)"))
    evaluator.step(NOW)
    assert evaluator.states == {"a": State.ALARM, "b": State.ALARM}


class Interrupted(Samples):
    """A source in whose fetch something else happens, in another thread."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self.meanwhile = meanwhile

    def fetch(self, stats: Sequence[MetricStat], start: int, end: int) -> list[Series]:
        thread = threading.Thread(target=self.meanwhile)
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), "the evaluator holds its lock while it fetches"
        return super().fetch(stats, start, end)


def test_alarms_may_come_change_and_go_while_a_step_fetches() -> None:
    # given three alarms that would fire
    def meanwhile() -> None:
        running.delete("gone")
        running.put(metric_alarm("changed", TreatMissingData="notBreaching"))
        running.put(metric_alarm("new"))

    running = Evaluator(Interrupted(meanwhile))
    for name in ("gone", "changed", "stays"):
        running.put(metric_alarm(name, TreatMissingData="breaching"))
    # when one goes and one changes while their points are fetched
    told = running.step(NOW)
    # then only the one that stayed as it was is judged
    assert [(one.alarm.name, one.new) for one in told] == [("stays", State.ALARM)]
    assert set(running.states) == {"changed", "stays", "new"}
