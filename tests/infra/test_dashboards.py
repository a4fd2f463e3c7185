"""Dashboards: valid, complete, and without a widget that would stay empty for a wrong name."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from infra.assemblies import Assembly, Properties, logical_id
from infra.test_alarms import every_alarm, external, metric_alarms, notifies
from infra.watched import CATALOGUE, STAGES, fill, operands, renamings, widget_complaints, widget_uses
from sluice_core import metrics
from sluice_core.executors import BATCH, ECS, EXTERNAL, LAMBDA, STEP_FUNCTIONS
from sluice_core.metrics import NAMESPACE
from sluice_harness.cloudwatch.expressions import parse
from sluice_harness.description import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from infra.watched import Path

pytestmark = pytest.mark.xdist_group("infra")

FILES = sorted((ROOT / "dashboards").glob("*.json"))
PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
# CloudWatch API Reference, "Dashboard body structure and syntax"; CloudWatch User Guide, "Service quotas".
COLUMNS, TALLEST = 24, 1_000
MOST_WIDGETS, MOST_METRICS, MOST_METRICS_OF_A_WIDGET, MOST_ALARMS = 500, 2_500, 500, 100
VIEWS = {"timeSeries", "singleValue"}
STARTS = [0, 300, 600]
# What is sent only where there are external executors, but for what the objectives reckon with on every stage.
OF_EXECUTORS = {
    one.name
    for one in (
        *(metrics.JOBS_FAILED_TIMED_OUT, metrics.JOBS_FAILED_STOPPED),
        *(metrics.EXECUTIONS_RUNNING, metrics.EXECUTIONS_NOT_STARTED),
        *(metrics.COMPLETIONS_DROPPED, metrics.COMPLETIONS_RECONCILED),
        metrics.EXTERNAL_END_TO_END,
    )
}


@pytest.fixture(scope="session", params=STAGES)
def assembly(request: pytest.FixtureRequest, synthesized: Callable[[str], Assembly]) -> Assembly:
    return synthesized(request.param)


@dataclass(frozen=True)
class Dashboard:
    """A dashboard in a template: its text as in the file, and what its placeholders stand for."""

    name: str
    text: str
    values: Mapping[str, Any]

    @property
    def widgets(self) -> list[Properties]:
        found: list[Properties] = json.loads(self.text)["widgets"]
        return found

    def of_type(self, kind: str) -> list[Properties]:
        return [widget for widget in self.widgets if widget["type"] == kind]

    def titled(self, title: str) -> Properties:
        (found,) = [one for one in self.of_type("metric") if one["properties"]["title"] == title]
        return found


def dashboards(assembly: Assembly) -> list[Dashboard]:
    return [
        Dashboard(one["DashboardName"], *one["DashboardBody"]["Fn::Sub"])
        for one in assembly.of_type("CloudWatch::Dashboard").values()
    ]


def operations(assembly: Assembly) -> Dashboard:
    (found,) = [one for one in dashboards(assembly) if one.name.endswith("-operations")]
    return found


def of_executors(assembly: Assembly) -> list[Dashboard]:
    """The dashboard of external executors, if the stage has any."""
    return [one for one in dashboards(assembly) if one.name.endswith("-executors")]


def metric_widgets(assembly: Assembly) -> Iterator[tuple[str, Dashboard, Properties]]:
    for dashboard in dashboards(assembly):
        for widget in dashboard.of_type("metric"):
            yield f"{dashboard.name}: {widget['properties']['title']}", dashboard, widget


# --- the files, as an SRE pastes them


def test_every_file_is_a_dashboard_of_the_stage(assembly: Assembly) -> None:
    files = [file for file in FILES if external(assembly) or file.stem != "executors"]
    assert {one.name for one in dashboards(assembly)} == {f"sluice-{assembly.stage}-{one.stem}" for one in files}
    texts = {one.name: one.text for one in dashboards(assembly)}
    for file in files:
        # the file is JSON before anything is filled in: it can be pasted into the console, and back
        assert json.loads(file.read_text())["widgets"]
        assert texts[f"sluice-{assembly.stage}-{file.stem}"] == file.read_text()


def test_all_placeholders_are_filled_and_no_value_is_left_over(assembly: Assembly) -> None:
    for dashboard in dashboards(assembly):
        assert set(PLACEHOLDER.findall(dashboard.text)) == set(dashboard.values), dashboard.name
        # what CloudFormation makes of it
        filled = dashboard.text
        for name, value in dashboard.values.items():
            filled = filled.replace(f"${{{name}}}", str(value))
        assert "${" not in filled


# --- the grid and the limits


def test_widgets_lie_on_the_grid_and_nowhere_on_each_other(assembly: Assembly) -> None:
    for dashboard in dashboards(assembly):
        check_grid(dashboard)


def check_grid(dashboard: Dashboard) -> None:
    taken: dict[tuple[int, int], int] = {}
    for number, widget in enumerate(dashboard.widgets):
        x, y, width, height = (widget[key] for key in ("x", "y", "width", "height"))
        assert 0 <= x < x + width <= COLUMNS, (dashboard.name, number)
        assert y >= 0, (dashboard.name, number)
        assert 1 <= height <= TALLEST, (dashboard.name, number)
        cells = set(itertools.product(range(x, x + width), range(y, y + height)))
        assert not cells & taken.keys(), (dashboard.name, number, taken[min(cells & taken.keys())])
        taken |= dict.fromkeys(cells, number)
    # no row is half empty: there would be a hole in the page
    bottom = max(y for _, y in taken)
    assert set(taken) == set(itertools.product(range(COLUMNS), range(bottom + 1))), dashboard.name


def test_dashboards_keep_cloudwatch_s_limits(assembly: Assembly) -> None:
    for dashboard in dashboards(assembly):
        rows = [len(one["properties"]["metrics"]) for one in dashboard.of_type("metric")]
        assert len(dashboard.widgets) <= MOST_WIDGETS
        assert max(rows) <= MOST_METRICS_OF_A_WIDGET
        assert sum(rows) <= MOST_METRICS
        assert all(len(one["properties"]["alarms"]) <= MOST_ALARMS for one in dashboard.of_type("alarm"))


def test_every_widget_says_what_it_shows_and_in_which_unit(assembly: Assembly) -> None:
    for name, _, widget in metric_widgets(assembly):
        shown = widget["properties"]
        assert shown["title"], name
        assert shown["region"] == "${Region}", name
        assert shown["view"] in VIEWS, name
        assert shown["period"] % 60 == 0, name
        if shown["view"] == "timeSeries":
            sides = {row[-1].get("yAxis", "left") for row in shown["metrics"] if isinstance(row[-1], dict)}
            assert set(shown["yAxis"]) == sides | {"left"}, name
            assert all(axis["label"] for axis in shown["yAxis"].values()), name


def test_what_is_only_calculated_with_is_not_drawn_and_the_rest_is(assembly: Assembly) -> None:
    for name, _, widget in metric_widgets(assembly):
        every = [row[-1] for row in widget["properties"]["metrics"] if isinstance(row[-1], dict)]
        used = {
            one
            for options in every
            if not options.get("expression", "SEARCH(").startswith("SEARCH(")
            for one in parse(PLACEHOLDER.sub("1", options["expression"])).names
        }
        hidden = {options["id"] for options in every if options.get("visible") is False}
        assert hidden == used, name
        assert len(hidden) < len(widget["properties"]["metrics"]), name


# --- what they show


def test_every_widget_draws_metrics_that_are_sent(assembly: Assembly) -> None:
    for name, dashboard, widget in metric_widgets(assembly):
        assert widget_complaints(widget, dashboard.values, assembly) == [], name


def test_a_widget_with_any_other_name_in_it_would_be_found(assembly: Assembly) -> None:
    # given every widget with one metric, namespace, dimension, value, statistic or word of an expression renamed
    renamed = [
        (f"{name}: {what}", dashboard.values, changed)
        for name, dashboard, widget in metric_widgets(assembly)
        for what, changed in renamings(widget, _is_name)
    ]
    assert len(renamed) > 4 * sum(len(widget["properties"]["metrics"]) for *_, widget in metric_widgets(assembly))

    # then there is something to say of each
    unnoticed = [what for what, values, changed in renamed if not widget_complaints(changed, values, assembly)]
    assert unnoticed == []


def _is_name(path: Path) -> bool:
    of_a_row = path[:2] == ("properties", "metrics")
    # A name in a row's list, or one of its options that names something.
    return of_a_row and (len(path) == 4 or path[-1] in {"stat", "expression"})


def test_the_default_statistic_of_a_widget_is_looked_at(assembly: Assembly) -> None:
    widget = operations(assembly).titled("Submissions")
    changed = widget | {"properties": widget["properties"] | {"stat": "Maximum"}}
    assert widget_complaints(changed, operations(assembly).values, assembly) != []


def test_every_metric_of_the_catalogue_is_on_a_dashboard_or_in_an_alarm(assembly: Assembly) -> None:
    drawn = [
        use for _, dashboard, widget in metric_widgets(assembly) for use in widget_uses(widget, dashboard.values)
    ]
    watched = [use for alarm in metric_alarms(assembly).values() for use in operands(alarm)]
    shown = {use.name for use in (*drawn, *watched) if use.namespace == NAMESPACE}
    assert shown == set(CATALOGUE) - (set() if external(assembly) else OF_EXECUTORS)


def test_every_alarm_that_notifies_is_on_the_operations_page_or_on_the_executors(assembly: Assembly) -> None:
    shown = [
        fill(one, dashboard.values)
        for dashboard in (operations(assembly), *of_executors(assembly))
        for widget in dashboard.of_type("alarm")
        for one in widget["properties"]["alarms"]
    ]
    names = [assembly.resources[logical_id(one)]["Properties"]["AlarmName"] for one in shown]
    assert all(one["Fn::GetAtt"][1] == "Arn" for one in shown)
    assert len(set(names)) == len(names)
    assert set(names) == {one["AlarmName"] for one in every_alarm(assembly).values() if notifies(one)}


def test_every_function_has_a_section_of_the_functions_page_or_is_on_the_executors(assembly: Assembly) -> None:
    (functions,) = [one for one in dashboards(assembly) if one.name.endswith("-functions")]
    shown: dict[str, set[str]] = {}
    for dashboard in (functions, *of_executors(assembly)):
        for widget in dashboard.of_type("metric"):
            for use in widget_uses(widget, dashboard.values):
                for value in use.dimensions.values():
                    if isinstance(value, dict):
                        shown.setdefault(_thing(value, assembly), set()).add(use.name)
    for function in assembly.of_type("Lambda::Function"):
        assert shown[function] >= {"Invocations", "Errors", "Throttles", "Duration", "ConcurrentExecutions"}
    for mapping in assembly.of_type("Lambda::EventSourceMapping"):
        assert shown[mapping] >= {"InvokedEventCount", "FailedInvokeEventCount"}


def _thing(value: Any, assembly: Assembly) -> str:
    return logical_id(assembly.outputs[value["Fn::ImportValue"].partition(":")[2]])


# --- what only some stages have


@pytest.mark.parametrize(
    ("variant", "executor"), [("workflows_alone", STEP_FUNCTIONS), ("batch_alone", BATCH), ("ecs_draining", ECS)]
)
def test_the_page_of_executors_has_what_there_is_of_one_alone(
    variants: dict[str, Assembly], variant: str, executor: str
) -> None:
    # given a stage with one external executor, then its page names what is there, in full rows, and nothing else
    (page,) = of_executors(variants[variant])
    assert set(PLACEHOLDER.findall(page.text)) == set(page.values)
    check_grid(page)
    titles = {widget["properties"].get("title") for widget in page.widgets}
    assert ("Workflows" in titles) == (executor == STEP_FUNCTIONS)
    # and of executors only its own lines, and those of `lambda`, each with all that it is calculated from
    foreign = {*EXTERNAL} - {executor}
    for widget in page.of_type("metric"):
        options = [row[-1] for row in widget["properties"]["metrics"]]
        assert not [one["label"] for one in options if foreign & set(one["label"].replace(",", "").split())]
        expressions = [one["expression"] for one in options if "expression" in one]
        math = [parse(PLACEHOLDER.sub("1", one)) for one in expressions if not one.startswith("SEARCH(")]
        assert {name for one in math for name in one.names} <= {one.get("id") for one in options}


# --- that they say the same as the alarms


def test_what_a_backlog_takes_to_drain_is_drawn_as_its_alarm_reckons_it(assembly: Assembly) -> None:
    for page in of_executors(assembly):
        rows = page.titled("Time to drain (two weeks if it does not)")["properties"]["metrics"]
        drawn = {row[-1]["label"]: row[-1]["expression"] for row in rows if "expression" in row[-1]}
        assert set(drawn) == {LAMBDA, *external(assembly)}
        for executor, expression in drawn.items():
            alarm = metric_alarms(assembly)[f"{'work' if executor == LAMBDA else executor}-time-to-drain"]
            (reckoned,) = [query["Expression"] for query in alarm["Metrics"] if "Expression" in query]
            assert re.sub(rf"_{executor}\b", "", expression) == reckoned


@pytest.mark.parametrize(
    ("objective", "series"),
    [
        (
            "availability",
            {"refused": [1, 0, 2], "exhausted": [0, 1, 0], "lost": [3, 0, 0], "completed": [900, 10, 0]},
        ),
        ("latency", {"within": [100, 93.5, 0], "jobs": [50, 100, 3]}),
    ],
)
def test_a_burn_rate_is_drawn_as_its_alarms_reckon_it(
    assembly: Assembly, objective: str, series: dict[str, list[float]]
) -> None:
    # given the expression of the alarms, and that of the widget
    (alarm,) = {
        query["Expression"]
        for name, one in metric_alarms(assembly).items()
        for query in one["Metrics"]
        if name.startswith(f"{objective}-burn-") and "Expression" in query
    }
    dashboard = operations(assembly)
    widget = dashboard.titled(f"{objective.capitalize()}: burn rate")
    drawn = fill(widget["properties"]["metrics"][-1][0]["expression"], dashboard.values)

    # when both are evaluated on the same data, of which one series has none
    if external(assembly) and objective == "availability":
        series = series | {"unstarted": [0, 2, 5]}
    variables = {name: dict(zip(STARTS, values, strict=True)) for name, values in series.items()}
    asked = {*parse(alarm).names, *parse(drawn).names}
    variables |= {name: {} for name in asked if name not in variables}
    by_alarm, by_widget = (parse(text).evaluate(variables, 300, STARTS) for text in (alarm, drawn))

    # then they agree, and so do the lines with the thresholds
    assert by_widget == pytest.approx(by_alarm)
    assert set(by_alarm) == set(STARTS)
    thresholds = {
        one["Threshold"] for name, one in metric_alarms(assembly).items() if name.startswith(f"{objective}-burn-")
    }
    assert {line["value"] for line in widget["properties"]["annotations"]["horizontal"]} == thresholds


@pytest.mark.parametrize("objective", ["Availability", "Latency"])
def test_the_error_budget_left_is_what_the_burn_rate_has_not_spent(assembly: Assembly, objective: str) -> None:
    dashboard = operations(assembly)
    burn, left = (
        parse(fill(widget["properties"]["metrics"][-1][0]["expression"], dashboard.values))
        for widget in map(dashboard.titled, (f"{objective}: burn rate", f"{objective}: error budget left (%)"))
    )
    variables = {name: {0: 40.0} for name in burn.names}
    assert left.evaluate(variables, 60, [0])[0] == pytest.approx(100 * (1 - burn.evaluate(variables, 60, [0])[0]))
