"""The observability stack: who is told, every alarm, the dashboards, the saved log queries, the log of load tests.

What it watches and how is data: `alarms`, ``dashboards/*.json`` and ``dashboards/queries/*.query``. Only the names
of things are filled in here, by placeholder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions

from sluice_infra.alarms import alarm_specs, composite_specs
from sluice_infra.bundling import ROOT
from sluice_infra.dashboards import cut
from sluice_infra.functions import log_group
from sluice_infra.keys import rotating_key

if TYPE_CHECKING:
    from pathlib import Path

    from constructs import Construct

    from sluice_infra.alarm_specs import AlarmSpec, CompositeSpec, Series
    from sluice_infra.ingestion_stack import IngestionStack
    from sluice_infra.stages import StageConfig

_DASHBOARDS = ROOT / "dashboards"
_QUERIES = _DASHBOARDS / "queries"
# The dashboard that there is only where external executors are, and only of those.
_OF_EXECUTORS = "executors"
# A job's container says what a function would.
_CONTAINER_LOGS = ("BatchLogGroup", "EcsLogGroup")
_SUPPRESSION_WAIT_S = 120
_SUPPRESSION_EXTENSION_S = 300


class ObservabilityStack(cdk.Stack):
    """What an SRE sees of a stage, and is woken by."""

    def __init__(
        self, scope: Construct, name: str, config: StageConfig, *, ingestion: IngestionStack, **kwargs: Any
    ) -> None:
        super().__init__(scope, name, description="Sluice: alarms, dashboards, log queries", **kwargs)
        self._config = config
        self._topic = self._add_topic()
        self._placeholders = {
            "Region": self.region,
            "Stage": config.name,
            "AlarmTopic": self._topic.topic_name,
            **ingestion.placeholders(),
            **_of_executors(config),
        }
        self._alarms: dict[str, str] = {}
        for spec in alarm_specs(config):
            self._add_alarm(spec)
        for composite in composite_specs(config):
            self._add_composite(composite)
        for file in sorted(_DASHBOARDS.glob("*.json")):
            if file.stem != _OF_EXECUTORS or config.external_executors:
                self._add_dashboard(file)
        groups = [function.log_group.log_group_name for function in ingestion.functions.values()]
        groups += [self._placeholders[name] for name in _CONTAINER_LOGS if name in self._placeholders]
        for file in sorted(_QUERIES.glob("*.query")):
            self._add_query(file, groups)
        self._add_load_log()
        cdk.CfnOutput(self, "AlarmTopicArn", value=self._topic.topic_arn)

    def _add_topic(self) -> sns.Topic:
        """Add where alarms go: encrypted with a key that CloudWatch may use, which AWS's own for SNS is not."""
        key = rotating_key(self, "AlarmKey", f"Sluice {self._config.name}: notifications of alarms")
        topic = sns.Topic(self, "Alarms", master_key=key, enforce_ssl=True)
        cloudwatch_itself = iam.ServicePrincipal(
            "cloudwatch.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": self.account}}
        )
        key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[cloudwatch_itself], actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=["*"]
            )
        )
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[cloudwatch_itself], actions=["sns:Publish"], resources=[topic.topic_arn]
            )
        )
        for address in self._config.alarm_emails:
            topic.add_subscription(subscriptions.EmailSubscription(address))
        return topic

    def _add_alarm(self, spec: AlarmSpec) -> None:
        alarm = cloudwatch.CfnAlarm(
            self,
            _logical(spec.name),
            alarm_name=self._name(spec.name),
            alarm_description=self._description(spec),
            comparison_operator=spec.comparison,
            threshold=spec.threshold,
            datapoints_to_alarm=spec.m,
            evaluation_periods=spec.n,
            treat_missing_data=str(spec.missing),
            metrics=self._queries(spec),
            **(self._actions() if spec.notifies else {}),
        )
        self._alarms[spec.name] = alarm.attr_arn

    def _queries(self, spec: AlarmSpec) -> list[cloudwatch.CfnAlarm.MetricDataQueryProperty]:
        queries = [
            cloudwatch.CfnAlarm.MetricDataQueryProperty(
                id=key, metric_stat=self._metric_stat(series, spec.period_s), return_data=not spec.expression
            )
            for key, series in spec.series.items()
        ]
        if spec.expression:
            queries.append(
                cloudwatch.CfnAlarm.MetricDataQueryProperty(
                    id="result", expression=spec.expression, label=spec.name, return_data=True
                )
            )
        return queries

    def _metric_stat(self, series: Series, period_s: int) -> cloudwatch.CfnAlarm.MetricStatProperty:
        return cloudwatch.CfnAlarm.MetricStatProperty(
            metric=cloudwatch.CfnAlarm.MetricProperty(
                namespace=series.namespace,
                metric_name=series.name,
                dimensions=[
                    cloudwatch.CfnAlarm.DimensionProperty(name=name, value=self._fill(value))
                    for name, value in series.dimensions.items()
                ],
            ),
            period=period_s,
            stat=series.stat,
        )

    def _fill(self, value: str) -> str:
        return self._placeholders[value[2:-1]] if value.startswith("${") else value

    def _add_composite(self, spec: CompositeSpec) -> None:
        states = [f'ALARM("{self._name(child)}")' for child in spec.children]
        alarm = cloudwatch.CfnCompositeAlarm(
            self,
            _logical(spec.name),
            alarm_name=self._name(spec.name),
            alarm_description=self._description(spec),
            alarm_rule=(" AND " if spec.needs_all else " OR ").join(states),
            **self._actions(),
            **self._suppression(spec),
        )
        for child in (*spec.children, *filter(None, [spec.suppressed_by])):
            alarm.node.add_dependency(self.node.find_child(_logical(child)))
        self._alarms[spec.name] = alarm.attr_arn

    def _suppression(self, spec: CompositeSpec) -> dict[str, Any]:
        if not spec.suppressed_by:
            return {}
        return {
            "actions_suppressor": self._alarms[spec.suppressed_by],
            "actions_suppressor_wait_period": _SUPPRESSION_WAIT_S,
            "actions_suppressor_extension_period": _SUPPRESSION_EXTENSION_S,
        }

    def _name(self, name: str) -> str:
        return f"sluice-{self._config.name}-{name}"

    def _description(self, spec: AlarmSpec | CompositeSpec) -> str:
        return f"{spec.means} Severity: {spec.severity}. Runbook: {self._config.runbooks}/{spec.runbook}.md"

    def _actions(self) -> dict[str, Any]:
        return {"alarm_actions": [self._topic.topic_arn], "ok_actions": [self._topic.topic_arn]}

    def _add_dashboard(self, file: Path) -> None:
        """Add a dashboard; an SRE can paste its file into the console, edit it there and paste it back."""
        values = {
            **self._placeholders,
            "LatencyMs": str(self._config.thresholds.latency_ms),
            "AvailabilityBudget": _share(1 - self._config.thresholds.availability_objective),
            "LatencyBudget": _share(1 - self._config.thresholds.latency_objective),
            **{f"{_logical(name)}Alarm": arn for name, arn in self._alarms.items()},
        }
        body = file.read_text()
        if file.stem == _OF_EXECUTORS:
            body = cut(body, values)
        used = {name: value for name, value in values.items() if f"${{{name}}}" in body}
        dashboard = cloudwatch.CfnDashboard(
            self,
            _logical(file.stem),
            dashboard_name=f"sluice-{self._config.name}-{file.stem}",
            dashboard_body=cdk.Fn.sub(body, used),
        )
        console = f"https://{self.region}.console.aws.amazon.com/cloudwatch/home?region={self.region}"
        cdk.CfnOutput(self, f"{_logical(file.stem)}Dashboard", value=dashboard.ref)
        url = f"{console}#dashboards/dashboard/{dashboard.ref}"
        cdk.CfnOutput(self, f"{_logical(file.stem)}DashboardUrl", value=url)

    def _add_query(self, file: Path, groups: list[str]) -> None:
        logs.CfnQueryDefinition(
            self,
            f"{_logical(file.stem)}Query",
            name=f"sluice-{self._config.name}/{file.stem}",
            query_string=file.read_text(),
            log_group_names=groups,
        )

    def _add_load_log(self) -> None:
        """Add where load generators write their clients' metrics, as EMF; only who may write logs can."""
        load = log_group(self, "LoadLog", self._config)
        cdk.CfnOutput(self, "LoadLogGroup", value=load.log_group_name)


def _of_executors(config: StageConfig) -> dict[str, str]:
    """Return what dashboards say of external executors that is nothing's name in another stack."""
    caps = {executor: getattr(config, executor).max_running for executor in config.external_executors}
    return {
        **{f"{executor.capitalize()}Executor": executor for executor in caps},
        **{f"{executor.capitalize()}MaxRunning": str(cap) for executor, cap in caps.items()},
    }


def _logical(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))


def _share(value: float) -> str:
    return f"{round(value, 9):g}"
