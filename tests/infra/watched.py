"""What alarms and dashboards watch, and what is wrong with it: metrics nobody sends, things that are not there."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.assemblies import logical_id
from infra.aws_metrics import AWS_METRICS, Kind, Sent
from sluice_core import metrics
from sluice_core.metrics import CLIENT, NAMESPACE, Metric, Unit
from sluice_harness.cloudwatch.expressions import UnsupportedExpression, parse
from sluice_infra.stages import stage_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from infra.assemblies import Assembly, Properties

    Path = tuple[str | int, ...]

# Without external executors, with and without releases' alarms, and with all executors.
STAGES = ("dev", "prod", "longwork")
CATALOGUE = {one.name: one for one in vars(metrics).values() if isinstance(one, Metric)}
_KINDS = {Unit.COUNT: Kind.COUNT, Unit.MILLISECONDS: Kind.TIME, Unit.BYTES: Kind.SIZE}
# Counts of what there is, and not of what happens.
_LEVELS = {metrics.EXECUTIONS_RUNNING.name}
# What a dimension's value has to be a name of, and how a template says that name.
_THINGS = {
    "ExecutedVersion": ("AWS::Lambda::Version", "Version"),
    "EventSourceMappingUUID": ("AWS::Lambda::EventSourceMapping", "Ref"),
    "FunctionName": ("AWS::Lambda::Function", "Ref"),
    "QueueName": ("AWS::SQS::Queue", "QueueName"),
    "RuleName": ("AWS::Events::Rule", "Ref"),
    "StateMachineArn": ("AWS::StepFunctions::StateMachine", "Arn"),
    "TableName": ("AWS::DynamoDB::Table", "Ref"),
    "TopicName": ("AWS::SNS::Topic", "TopicName"),
}
_SEARCH = re.compile(
    r"SEARCH\('\{(?P<namespace>[\w/]+)(?P<names>(,\w+)+)\} MetricName=\"(?P<metric>\w+)\" "
    r"(?P<name>\w+)=\"(?P<value>[^\"]+)\"', '(?P<stat>\w+)'\)"
)


@dataclass(frozen=True)
class Use:
    """One metric's statistic, as an alarm or a widget asks for it; a value of None stands for all there are."""

    namespace: str
    name: str
    stat: str
    dimensions: Mapping[str, Any]


# --- alarms


def operands(alarm: Properties) -> list[Use]:
    """The metrics that an alarm watches."""
    stats = [query["MetricStat"] for query in alarm["Metrics"] if "MetricStat" in query]
    return [
        Use(
            stat["Metric"]["Namespace"],
            stat["Metric"]["MetricName"],
            stat["Stat"],
            {one["Name"]: one["Value"] for one in stat["Metric"]["Dimensions"]},
        )
        for stat in stats
    ]


def alarm_complaints(alarm: Properties, assembly: Assembly) -> list[str]:
    """What is wrong with an alarm's metrics and expression."""
    queries = alarm["Metrics"]
    returned = [query["Id"] for query in queries if query["ReturnData"]]
    wrong = [] if len(returned) == 1 else [f"returns {returned}, and not one series"]
    ids = [query["Id"] for query in queries if "MetricStat" in query]
    expressions = [query["Expression"] for query in queries if "Expression" in query]
    if expressions or len(ids) > 1:
        wrong += _expression_complaints(ids, expressions)
    return wrong + [complaint for use in operands(alarm) for complaint in complaints(use, assembly)]


def _expression_complaints(ids: Sequence[str], expressions: Sequence[str]) -> list[str]:
    try:
        asked = {name for text in expressions for name in parse(text).names}
    except UnsupportedExpression as error:
        return [str(error)]
    return [f"{name} is used or defined, and not both" for name in asked ^ set(ids)]


# --- dashboards


def widget_uses(widget: Properties, values: Mapping[str, Any]) -> list[Use]:
    """The metrics that a widget draws or calculates with, the placeholders filled."""
    stat = widget["properties"]["stat"]
    uses = []
    for row in widget["properties"].get("metrics", []):
        *names, options = row if isinstance(row[-1], dict) else (*row, {})
        if "expression" in options:
            uses += _searched(options["expression"], values)
        else:
            namespace, name, *pairs = names
            dimensions = {key: fill(value, values) for key, value in zip(pairs[::2], pairs[1::2], strict=True)}
            uses.append(Use(namespace, name, str(fill(options.get("stat", stat), values)), dimensions))
    return uses


def widget_complaints(widget: Properties, values: Mapping[str, Any], assembly: Assembly) -> list[str]:
    """What is wrong with a widget's metrics and expressions."""
    every = [row[-1] for row in widget["properties"]["metrics"] if isinstance(row[-1], dict)]
    ids = [options["id"] for options in every if "id" in options and "expression" not in options]
    expressions = [str(fill(options["expression"], values)) for options in every if "expression" in options]
    math = [text for text in expressions if not text.startswith("SEARCH(")]
    wrong = _expression_complaints(ids, math)
    wrong += [f"cannot read {text}" for text in set(expressions) - set(math) if not _SEARCH.fullmatch(text)]
    return wrong + [complaint for use in widget_uses(widget, values) for complaint in complaints(use, assembly)]


def _searched(expression: str, values: Mapping[str, Any]) -> list[Use]:
    found = _SEARCH.fullmatch(str(fill(expression, values)))
    if found is None:
        return []
    names: dict[str, Any] = dict.fromkeys(found["names"].strip(",").split(","))
    return [Use(found["namespace"], found["metric"], found["stat"], names | {found["name"]: found["value"]})]


def fill(text: str, values: Mapping[str, Any]) -> Any:
    """Fill a text's placeholders; one that is a placeholder and nothing else becomes what the template says."""
    if whole := re.fullmatch(r"\$\{(\w+)\}", text):
        return values.get(whole[1], text)
    return re.sub(r"\$\{(\w+)\}", lambda found: _text(values.get(found[1], found[0])), text)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"<{json.dumps(value)}>"


# --- both


def complaints(use: Use, assembly: Assembly) -> list[str]:
    """What is wrong with a use of a metric: nobody sends it so, or of nothing that is there."""
    sent = sent_as(use)
    if sent is None:
        return [f"there is no metric {use.namespace} {use.name}"]
    wrong = []
    if frozenset(use.dimensions) not in sent.dimension_sets:
        wrong.append(f"{use.name} is not sent with the dimensions {sorted(use.dimensions)}")
    if not _means_something(use.stat, sent.kind):
        wrong.append(f"{use.stat} of {use.name} means nothing")
    for name, value in use.dimensions.items():
        if value is not None and not _is_there(use, name, value, assembly):
            wrong.append(f"{name} of {use.name} is {value}, which is not there")
    return wrong


def sent_as(use: Use) -> Sent | None:
    """What is known of a metric, or None if nobody sends it."""
    if use.namespace == NAMESPACE and use.name in CATALOGUE:
        metric = CATALOGUE[use.name]
        kind = Kind.LEVEL if use.name in _LEVELS else _KINDS[metric.unit]
        return Sent(kind, frozenset(map(frozenset, metric.dimension_sets)))
    return AWS_METRICS.get(use.namespace, {}).get(use.name)


def _means_something(stat: str, kind: Kind) -> bool:
    if kind is Kind.TIME and re.fullmatch(r"p\d\d?(\.\d{1,10})?|PR\(\d*:\d+\)|PR\(\d+:\)", stat):
        return True
    return stat[:1].isupper() and stat in kind.value and stat != "PR"


def _is_there(use: Use, name: str, value: Any, assembly: Assembly) -> bool:
    if name == "Resource" and use.namespace == "AWS/Lambda":
        aliases = assembly.of_type("Lambda::Alias").values()
        return value in [{"Fn::Join": ["", [one["FunctionName"], f":{one['Name']}"]]} for one in aliases]
    if name in _THINGS:
        return _is_name(assembly, resolved(value, assembly), *_THINGS[name])
    known: Mapping[str, Callable[[], Any]] = {
        "ApiName": lambda: {assembly.only("ApiGateway::RestApi")["Name"]},
        "Executor": lambda: set(stage_config(assembly.stage).external_executors),
        "GlobalSecondaryIndexName": lambda: {
            one["IndexName"]
            for table in assembly.of_type("DynamoDB::Table").values()
            for one in table.get("GlobalSecondaryIndexes", [])
        },
        "Method": lambda: {verb for verb, _ in counted_methods(assembly)},
        "Operation": lambda: table_operations(assembly),
        "Source": lambda: {CLIENT},
        "Resource": lambda: {path for _, path in counted_methods(assembly)},
        "Stage": lambda: {
            assembly.stage if use.namespace == NAMESPACE else assembly.only("ApiGateway::Stage")["StageName"]
        },
    }
    return name in known and isinstance(value, str) and value in known[name]()


def _is_name(assembly: Assembly, value: Any, kind: str, attribute: str) -> bool:
    if not isinstance(value, dict):
        return False
    said, resource = ("Ref", value["Ref"]) if "Ref" in value else (value["Fn::GetAtt"][1], value["Fn::GetAtt"][0])
    found = assembly.resources.get(resource, {"Type": ""})
    if kind == "AWS::Lambda::EventSourceMapping" and found["Type"] == kind:
        return bool(found["Properties"].get("MetricsConfig") == {"Metrics": ["EventCount"]}) and said == attribute
    return bool(found["Type"] == kind) and said == attribute


def resolved(value: Any, assembly: Assembly) -> Any:
    """What another stack exports under the name that a value imports."""
    if isinstance(value, dict) and "Fn::ImportValue" in value:
        stack, _, output = value["Fn::ImportValue"].partition(":")
        there = (assembly.folder / f"{stack}.template.json").is_file()
        return assembly.outputs.get(output) if there else None
    return value


def counted_methods(assembly: Assembly) -> set[tuple[str, str]]:
    """The API's methods and paths, of which API Gateway sends metrics only if it was told to."""
    settings = assembly.only("ApiGateway::Stage")["MethodSettings"]
    assert settings[0].items() >= {"HttpMethod": "*", "ResourcePath": "/*", "MetricsEnabled": True}.items()
    methods = assembly.of_type("ApiGateway::Method").values()
    return {(method["HttpMethod"], _path(method["ResourceId"], assembly)) for method in methods}


def _path(resource: Any, assembly: Assembly) -> str:
    found = assembly.resources.get(logical_id(resource), {"Type": ""})
    if found["Type"] != "AWS::ApiGateway::Resource":
        return ""
    return f"{_path(found['Properties']['ParentId'], assembly)}/{found['Properties']['PathPart']}"


def table_operations(assembly: Assembly, table: str = "") -> set[str]:
    """The operations on tables, or on one of them, that functions may call: PartiQL statements come in batches."""
    statements = [one for _, one in assembly.statements() if table in json.dumps(one.get("Resource", ""))]
    grants = {action for statement in statements for action in _actions(statement)}
    of_the_stream = {"DescribeStream", "GetRecords", "GetShardIterator", "ListStreams"}
    operations = {action.removeprefix("dynamodb:") for action in grants if action.startswith("dynamodb:")}
    return {"BatchExecuteStatement" if "PartiQL" in one else one for one in operations - of_the_stream}


def _actions(statement: Properties) -> list[str]:
    actions = statement["Action"]
    return actions if isinstance(actions, list) else [actions]


# --- mutations


def renamings(document: Any, is_name: Callable[[Path], bool]) -> Iterator[tuple[str, Any]]:
    """Every copy of a document in which one name, or one word of an expression, is another; and which one."""
    for path, text in _texts(document):
        if is_name(path):
            for word in re.finditer(r"[\w/{}$]+", text):
                changed = f"{text[: word.end()]}X{text[word.end() :]}"
                yield f"{'/'.join(map(str, path))}: {changed}", _replaced(document, path, changed)


def _texts(document: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    if isinstance(document, str):
        yield path, document
    elif isinstance(document, dict):
        for key, value in document.items():
            yield from _texts(value, (*path, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from _texts(value, (*path, index))


def _replaced(document: Any, path: Path, text: str) -> Any:
    changed = copy.deepcopy(document)
    part = changed
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = text
    return changed
