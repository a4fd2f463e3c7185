"""Composite alarms: rules, and suppression as in AWS's examples."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice_harness.cloudwatch.composites import UnsupportedRule, name_in, parse
from sluice_harness.cloudwatch.definitions import State
from sluice_harness.cloudwatch.evaluator import Evaluator
from unit.alarms import ALARM_TOPIC, NOW, OK_TOPIC, Samples, composite, metric_alarm

ARN = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:"
STATES = {"a": "ALARM", "b": "OK", "c": "INSUFFICIENT_DATA", "d e (f)": "ALARM"}
# AWS's examples count in units, of which a wait period has two and an extension period three.
UNIT = 60
A, K = State.ALARM, State.OK
# "Suppressing composite alarm actions": when the alarm and its suppressor change, when which actions are taken.
EXAMPLES: dict[str, tuple[dict[int, State], dict[int, State], dict[int, str]]] = {
    "1: not suppressed after the wait period": ({2: A}, {}, {4: ALARM_TOPIC}),
    "2: suppressed before the wait period ends": ({2: A}, {3: A}, {}),
    "3: a change during the wait period": ({2: A, 3: K}, {}, {5: OK_TOPIC}),
    "4: a change while suppressed": ({2: A}, {1: A}, {}),
    "5: not suppressed after the extension period": ({2: A}, {3: A, 6: K}, {9: ALARM_TOPIC}),
    "6: a change during the extension period": ({2: A, 7: K}, {3: A, 6: K}, {9: OK_TOPIC}),
    "the extension period again after a relapse": ({2: A}, {3: A, 6: K, 7: A, 10: K}, {13: ALARM_TOPIC}),
    "nothing to act on after the extension period": ({2: A}, {5: A, 7: K}, {4: ALARM_TOPIC}),
    "back and forth while suppressed": ({2: A, 4: K}, {1: A, 6: K}, {9: OK_TOPIC}),
    "the suppressor comes as the wait period ends": ({2: A}, {4: A, 5: K}, {8: ALARM_TOPIC}),
}


def rules() -> st.SearchStrategy[tuple[str, bool]]:
    """Return rules as texts, with what they are."""
    functions = st.tuples(st.sampled_from(["ALARM", "OK", "INSUFFICIENT_DATA"]), st.sampled_from([*STATES])).map(
        lambda one: (f'{one[0]}("{one[1]}")', STATES[one[1]] == one[0])
    )
    leaves = st.one_of(functions, st.sampled_from([("TRUE", True), ("FALSE", False)]))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            inner.map(lambda one: (f"NOT ({one[0]})", not one[1])),
            st.tuples(inner, inner).map(lambda two: (f"({two[0][0]}) AND ({two[1][0]})", two[0][1] and two[1][1])),
            st.tuples(inner, inner).map(lambda two: (f"({two[0][0]}) OR ({two[1][0]})", two[0][1] or two[1][1])),
        ),
        max_leaves=6,
    )


def suppressed(**changes: Any) -> Evaluator:
    """Return an evaluator with an alarm that acts for another, unless a third suppresses it; all are OK."""
    evaluator = Evaluator(Samples())
    for name in ("child", "suppressor"):
        evaluator.put(metric_alarm(name, TreatMissingData="ignore"))
        evaluator.set_state(name, State.OK, "by hand", NOW)
    periods = {"ActionsSuppressorWaitPeriod": 2 * UNIT, "ActionsSuppressorExtensionPeriod": 3 * UNIT}
    evaluator.put(composite("all", "ALARM(child)", **{"ActionsSuppressor": "suppressor", **periods, **changes}))
    evaluator.set_state("all", State.OK, "by hand", NOW - 10 * UNIT)
    evaluator.step(NOW - 8 * UNIT)
    return evaluator


def actions(evaluator: Evaluator, alarm: dict[int, State], suppressor: dict[int, State]) -> dict[int, str]:
    """Let both change as they do, and return when which action of the composite is taken."""
    taken: dict[int, str] = {}
    for time in range(16):
        now = NOW + time * UNIT
        told = []
        for name, changes in (("suppressor", suppressor), ("child", alarm)):
            if time in changes:
                told += evaluator.set_state(name, changes[time], "by hand", now)
        told += evaluator.step(now)
        for action in (action for one in told if one.alarm.name == "all" for action in one.actions):
            assert taken.setdefault(time, action) == action
    return taken


@given(rules())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_rule_is_what_its_parts_make_it(rule: tuple[str, bool]) -> None:
    text, holds = rule
    assert parse(text).holds(STATES) is holds


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("ALARM(a) OR ALARM(a) AND ALARM(b)", True),
        ("NOT ALARM(a) OR OK(b)", True),
        ("NOT (ALARM(a) OR OK(b))", False),
        ("NOT NOT ALARM(a)", True),
        ('ALARM("d e (f)")', True),
        ("ALARM( a )AND(OK(b))", True),
        (f"ALARM({ARN}a)", True),
        (f'OK("{ARN}b")', True),
        ("\n ALARM(a)\n AND INSUFFICIENT_DATA(c)\n", True),
        ("False", False),
        ("TRUE", True),
    ],
)
def test_rules_are_read_as_documented(text: str, holds: bool) -> None:
    assert parse(text).holds(STATES) is holds


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "it ends early at character 1 "),
        ("ALARM(a) OR", "it ends early at character 12 "),
        ("ALARM(a) XOR ALARM(b)", "'XOR' is not expected at character 9 "),
        ("(ALARM(a)", r"'\)' is expected at character 10 "),
        ("ALARM(a))", r"'\)' is not expected at character 9 "),
        ("ALARM()", "'ALARM' is not supported at character 1 "),
        ("alarm(a)", "'alarm' is not supported at character 1 "),
        ("AT_LEAST(1, ALARM, (a, b))", "'AT_LEAST' is not supported at character 1 "),
        ("a", "'a' is not supported at character 1 "),
        ("ALARM(a) & OK(b)", "'&' is not expected at character 9 "),
    ],
)
def test_a_rule_that_cannot_be_read_is_told_with_its_place(text: str, complaint: str) -> None:
    with pytest.raises(UnsupportedRule, match=complaint) as refused:
        parse(text)
    assert 'supported are ALARM("name or ARN")' in str(refused.value)


def test_a_name_may_have_colons() -> None:
    assert [name_in(f"{ARN}a:alarm:b"), name_in("a:alarm:b")] == ["a:alarm:b"] * 2


@pytest.mark.parametrize(("alarm", "suppressor", "expected"), EXAMPLES.values(), ids=EXAMPLES)
def test_suppression_is_that_of_the_published_examples(
    alarm: dict[int, State], suppressor: dict[int, State], expected: dict[int, str]
) -> None:
    assert actions(suppressed(), alarm, suppressor) == expected


def test_without_a_wait_period_actions_are_taken_at_once() -> None:
    evaluator = suppressed(ActionsSuppressorWaitPeriod=0)
    assert actions(evaluator, {2: A, 4: K}, {3: A, 5: K}) == {2: ALARM_TOPIC, 8: OK_TOPIC}


def test_what_suppresses_is_told_with_each_transition_and_in_the_status() -> None:
    # given an alarm that has changed, was suppressed, and is so no more
    evaluator = suppressed()
    reasons = []
    for time, name, state in ((2, "child", A), (3, "suppressor", A), (6, "suppressor", K)):
        evaluator.set_state(name, state, "by hand", NOW + time * UNIT)
        reasons.append(evaluator.status("all").suppressed_by)
    # when the extension period ends
    (late,) = evaluator.step(NOW + 9 * UNIT)
    # then the actions come with the state that it is in, and the reason that it had
    assert reasons == ["WaitPeriod", "Alarm", "ExtensionPeriod"]
    first, last = evaluator.history("all")[-2:]
    assert (first.old, first.new, first.actions, first.suppressed_by) == (K, A, (), "WaitPeriod")
    assert (last.old, last.new, last.actions, last.suppressed_by) == (A, A, (ALARM_TOPIC,), None)
    assert late is last
    assert (last.reason, last.reason_data) == (first.reason, first.reason_data)
    assert evaluator.status("all").suppressed_by is None


@pytest.mark.parametrize("suppressor", [None, "other"])
def test_another_suppressor_ends_the_periods_of_the_old_one(suppressor: str | None) -> None:
    # given an alarm that waits for its suppressor
    evaluator = suppressed()
    evaluator.put(metric_alarm("other", TreatMissingData="ignore"))
    evaluator.set_state("child", A, "by hand", NOW)
    # when it is given another, or none
    evaluator.put(composite("all", "ALARM(child)", **_suppressed_by(suppressor)))
    # then it acts
    (late,) = evaluator.step(NOW + 1)
    assert late.actions == (ALARM_TOPIC,)
    assert evaluator.step(NOW + 2) == []


def _suppressed_by(name: str | None) -> dict[str, Any]:
    periods = ("ActionsSuppressorWaitPeriod", "ActionsSuppressorExtensionPeriod")
    return {"ActionsSuppressor": name, **dict.fromkeys(periods, 600)} if name else {}


def test_composites_follow_each_other_in_one_step_whatever_their_order() -> None:
    # given composites of composites, put so that the last depends on all
    evaluator = Evaluator(Samples())
    evaluator.put(metric_alarm("child", TreatMissingData="notBreaching"))
    evaluator.put(composite("a", "ALARM(child)"))
    evaluator.put(composite("b", "FALSE"))
    evaluator.put(composite("c", "ALARM(b) AND ALARM(a)"))
    evaluator.put(composite("b", "ALARM(a)"))
    evaluator.step(NOW)
    assert set(evaluator.states.values()) == {K}
    # when the child fires
    told = evaluator.set_state("child", A, "by hand", NOW)
    # then all do, each after what it depends on, and a step takes all back
    assert [one.alarm.name for one in told] == ["child", "a", "b", "c"]
    assert [one.alarm.name for one in evaluator.step(NOW + 60)] == ["child", "a", "b", "c"]


@pytest.mark.parametrize("states", [*itertools.product([A, K], repeat=2)])
def test_a_composite_is_what_its_rule_says_of_the_states(states: tuple[State, State]) -> None:
    evaluator = Evaluator(Samples())
    for name, state in zip(("a", "b"), states, strict=True):
        evaluator.put(metric_alarm(name, TreatMissingData="ignore"))
        evaluator.set_state(name, state, "by hand", NOW)
    evaluator.put(composite("both", "ALARM(a) AND NOT OK(b)"))
    evaluator.step(NOW)
    assert evaluator.states["both"] == (A if states == (A, A) else K)
