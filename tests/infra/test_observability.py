"""The observability stack: who is told and how safely, the saved log queries, and where everything is found."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sluice_handlers
from infra.assemblies import Assembly, Properties, listed, logical_id
from infra.watched import STAGES, resolved
from sluice_core import container_run
from sluice_harness.description import ROOT
from sluice_infra.stages import stage_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.xdist_group("infra")

QUERIES = sorted((ROOT / "dashboards" / "queries").glob("*.query"))
OF_THIS_ACCOUNT = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
USE_OF_A_KEY = re.compile(r"kms:(Decrypt|Encrypt|GenerateDataKey|ReEncrypt|CreateGrant|\w*\*)")
CLOUDWATCH = {"Service": "cloudwatch.amazonaws.com"}


@pytest.fixture(scope="session", params=STAGES)
def assembly(request: pytest.FixtureRequest, synthesized: Callable[[str], Assembly]) -> Assembly:
    return synthesized(request.param)


# --- the topic and its key


def test_the_topic_is_encrypted_with_a_key_of_ours_that_rotates(assembly: Assembly) -> None:
    # given that CloudWatch may not use the key that AWS keeps for SNS (CloudWatch User Guide, "Alarm actions")
    (key,) = assembly.of_type("KMS::Key")
    assert assembly.only("SNS::Topic")["KmsMasterKeyId"] == {"Fn::GetAtt": [key, "Arn"]}
    assert assembly.only("KMS::Key")["EnableKeyRotation"] is True


def test_cloudwatch_may_use_the_key_for_alarms_of_this_account_and_nobody_else_may(assembly: Assembly) -> None:
    # given who may encrypt or decrypt with the key
    statements = assembly.only("KMS::Key")["KeyPolicy"]["Statement"]
    uses = [
        one for one in statements if set(listed(one["Action"])) & {"kms:Decrypt", "kms:GenerateDataKey*", "kms:*"}
    ]

    # then it is CloudWatch alone, and only in this account's name
    (grant,) = uses
    assert (grant["Effect"], grant["Principal"], grant["Condition"]) == ("Allow", CLOUDWATCH, OF_THIS_ACCOUNT)
    assert set(grant["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}


def test_only_cloudwatch_may_publish_and_only_over_tls(assembly: Assembly) -> None:
    (topic,) = assembly.of_type("SNS::Topic")
    policy = assembly.only("SNS::TopicPolicy")
    assert policy["Topics"] == [{"Ref": topic}]
    statements = policy["PolicyDocument"]["Statement"]
    (grant,) = [one for one in statements if one["Effect"] == "Allow"]
    (refusal,) = [one for one in statements if one["Effect"] == "Deny"]

    assert (grant["Action"], grant["Principal"]) == ("sns:Publish", CLOUDWATCH)
    assert grant["Condition"] == OF_THIS_ACCOUNT
    assert grant["Resource"] == refusal["Resource"] == {"Ref": topic}
    assert (refusal["Action"], refusal["Principal"]) == ("sns:Publish", "*")
    assert refusal["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_nothing_of_ours_may_publish_to_it(assembly: Assembly) -> None:
    others = [
        name
        for name, statement in assembly.statements()
        if assembly.resources[name]["Type"] != "AWS::SNS::TopicPolicy"
        and any(action.startswith("sns:") for action in listed(statement["Action"]))
    ]
    assert others == []


# --- where everything is found


def test_outputs_say_where_the_topic_and_the_dashboards_are(assembly: Assembly) -> None:
    (topic,) = assembly.of_type("SNS::Topic")
    assert assembly.outputs["AlarmTopicArn"] == {"Ref": topic}
    for name in assembly.of_type("CloudWatch::Dashboard"):
        assert assembly.outputs[f"{name}Dashboard"] == {"Ref": name}
        assert assembly.outputs[f"{name}DashboardUrl"] == {
            "Fn::Join": [
                "",
                [
                    "https://",
                    {"Ref": "AWS::Region"},
                    ".console.aws.amazon.com/cloudwatch/home?region=",
                    {"Ref": "AWS::Region"},
                    "#dashboards/dashboard/",
                    {"Ref": name},
                ],
            ]
        }


def test_all_of_it_is_in_a_stack_of_its_own(assembly: Assembly) -> None:
    (file,) = [file for file in assembly.template_files if '"AlarmActions"' in file.read_text()]
    assert file.name == f"sluice-{assembly.stage}-observability.template.json"
    # which no other stack needs
    assert [
        other for other in assembly.template_files if f"{file.name.partition('.')[0]}:" in other.read_text()
    ] == []


def test_what_clients_measure_has_a_log_group_that_forgets(assembly: Assembly) -> None:
    group = assembly.outputs["LoadLogGroup"]["Ref"]
    assert assembly.resources[group]["Properties"]["RetentionInDays"] == stage_config(assembly.stage).log_days
    # and no function may write into it
    assert [
        name for name, statement in assembly.statements() if group in json.dumps(statement.get("Resource"))
    ] == []


# --- saved queries


def saved_queries(assembly: Assembly) -> dict[str, Properties]:
    return {one["Name"]: one for one in assembly.of_type("Logs::QueryDefinition").values()}


def test_each_query_file_is_a_saved_query_over_all_functions_logs(assembly: Assembly) -> None:
    # given the functions' log groups, and those of containers if there are any
    functions = assembly.of_type("Lambda::Function").values()
    groups = [logical_id(function["LoggingConfig"]["LogGroup"]) for function in functions]
    outputs = ("BatchLogGroup", "EcsLogGroup")
    groups = sorted([*groups, *(assembly.outputs[name]["Ref"] for name in outputs if name in assembly.outputs)])

    # then each file's query looks at all of them
    saved = saved_queries(assembly)
    assert set(saved) == {f"sluice-{assembly.stage}/{file.stem}" for file in QUERIES}
    for file in QUERIES:
        query = saved[f"sluice-{assembly.stage}/{file.stem}"]
        assert query["QueryString"] == file.read_text()
        assert sorted(logical_id(resolved(one, assembly)) for one in query["LogGroupNames"]) == groups


# Logs Insights' own: CloudWatch Logs User Guide, "Supported logs and discovered fields", and its query syntax.
DISCOVERED = {"@timestamp", "@message", "@log", "@logStream", "@ingestionTime", "@type", "@requestId", "@duration"}
WORDS = {*("fields", "filter", "stats", "sort", "limit", "by", "and", "or", "not", "like", "desc", "asc")}
FUNCTIONS = {*("count", "count_distinct", "sum", "avg", "min", "max", "pct")}
# What Powertools puts in every line ("Logger", "Standard structured keys"); what is not set is left out.
ENVELOPE = {"level", "message", "timestamp", "service", "xray_trace_id"}
# What writes of jobs: functions and containers.
SOURCES = [*sorted(Path(sluice_handlers.__file__).parent.glob("*.py")), Path(container_run.__file__)]


def log_calls() -> Iterator[ast.Call]:
    """Every call in the handlers that writes a log line, or has one written."""
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in {"report", "_report", "self._report", "self._give_back", "write"} or re.fullmatch(
                    r"logger\.(info|warning|error)", called
                ):
                    yield node


def logged_fields() -> set[str]:
    names = {keyword.arg for call in log_calls() for keyword in call.keywords if keyword.arg}
    return (names | ENVELOPE) - {"is_bad"}


def logged_words() -> set[str]:
    """The outcomes and messages that handlers log."""
    first = [call.args[0] for call in log_calls() if call.args]
    return {one.value for one in first if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def unknown_names(query: str) -> set[str]:
    """The names in a query that are no field of any line, nor made by one of its commands before."""
    known = logged_fields() | DISCOVERED | WORDS | FUNCTIONS
    unknown = set()
    for command in _without_texts(query).split("|"):
        used = re.sub(r"\bas \w+", "", command)
        unknown |= set(re.findall(r"@?\b[A-Za-z_]\w*", used)) - known
        known |= set(re.findall(r"\bas (\w+)", command))
    return unknown


def _without_texts(query: str) -> str:
    return re.sub(r'^#.*$|"[^"]*"', "", query, flags=re.MULTILINE)


def unknown_words(query: str) -> set[str]:
    """The outcomes and messages that a query looks for and no handler logs."""
    code = re.sub(r"^#.*$", "", query, flags=re.MULTILINE)
    return set(re.findall(r'(?:outcome|message) = "([^"]*)"', code)) - logged_words()


def test_handlers_log_what_queries_can_ask_for() -> None:
    assert logged_fields() >= {"outcome", "jobId", "jobType", "traceId", "attempt", "endToEndMs", "error", "code"}
    assert logged_words() >= {"completed", "failed", "recorded", "refused", "swept"}


@pytest.mark.parametrize("file", QUERIES, ids=lambda file: file.stem)
def test_a_query_asks_for_fields_that_handlers_log(file: Path) -> None:
    query = file.read_text()
    assert unknown_names(query) == set()
    assert unknown_words(query) == set()
    assert query.startswith("# "), "say what it is for"


@pytest.mark.parametrize("file", QUERIES, ids=lambda file: file.stem)
def test_a_query_with_another_field_in_it_would_be_found(file: Path) -> None:
    # given the query with each field of a line renamed in turn, and each text that it looks for
    query = file.read_text()
    made = set(re.findall(r"\bas (\w+)", query))
    fields = [
        name
        for name in logged_fields() | DISCOVERED
        if re.search(rf"(?<![\w@]){name}\b", re.sub(r"\bas \w+", "", _without_texts(query)))
        and (name not in made or f"({name})" in query)
    ]
    texts = re.findall(r'(?:outcome|message) = "([^"]*)"', query)
    assert fields

    # then each is noticed
    for name in fields:
        assert unknown_names(re.sub(rf"(?<![\w@]){name}\b", f"{name}X", query)), name
    for text in texts:
        assert unknown_words(query.replace(f'"{text}"', f'"{text}X"')) == {f"{text}X"}


def test_job_history_asks_for_the_job_that_one_puts_in() -> None:
    (file,) = [file for file in QUERIES if file.stem == "job-history"]
    assert file.read_text().count('"JOB_ID"') == 1
