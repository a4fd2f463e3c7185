"""External executors: a stage has what those need that it has, and nothing of the others."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
from infra.assemblies import logical_id, short
from infra.test_lint import findings
from infra.test_nag import violations
from sluice_core import run_job
from sluice_core.configured import configured_executors
from sluice_core.executors import BATCH, CONTAINER, ECS, EXTERNAL, STEP_FUNCTIONS
from sluice_core.rows import EXECUTION_INDEX
from sluice_harness.description import Executors, from_outputs
from sluice_infra.functions import TIMEOUTS_S, timeouts_s
from sluice_infra.stages import stage_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.assemblies import Assembly, Properties

pytestmark = pytest.mark.xdist_group("infra")

DAY_S = 86_400
ALONE = {"workflows_alone": STEP_FUNCTIONS, "batch_alone": BATCH, "ecs_draining": ECS}
# Of which kinds there are resources only where one of these executors is.
OWN_KINDS = {
    "AWS::StepFunctions::StateMachine": {STEP_FUNCTIONS},
    "AWS::Batch::ComputeEnvironment": {BATCH},
    "AWS::Batch::JobDefinition": {BATCH},
    "AWS::Batch::JobQueue": {BATCH},
    "AWS::ECS::Cluster": {ECS},
    "AWS::ECS::TaskDefinition": {ECS},
    "AWS::EC2::VPC": {BATCH, ECS},
    "AWS::EC2::VPCEndpoint": {BATCH, ECS},
}


@pytest.fixture(scope="module")
def longwork(synthesized: Callable[[str], Assembly]) -> Assembly:
    return synthesized("longwork")


@pytest.fixture
def alone(variants: dict[str, Assembly], request: pytest.FixtureRequest) -> Assembly:
    return variants[request.param]


each_alone = pytest.mark.parametrize("alone", ALONE, indirect=True)


def kinds(assembly: Assembly) -> set[str]:
    return {resource["Type"] for resource in assembly.resources.values()}


def handlers(assembly: Assembly) -> set[str]:
    functions = assembly.of_type("Lambda::Function").values()
    return {one["Handler"].split(".")[1].replace("_", "-") for one in functions}


def variables(assembly: Assembly, module: str) -> dict[str, Any]:
    found: dict[str, Any] = assembly.function(module)[1]["Environment"]["Variables"]
    return found


def test_a_stage_without_has_nothing_of_them(assembly: Assembly) -> None:
    # given the kinds of resources and the functions that only executors have, then none is there
    assert kinds(assembly) & {*OWN_KINDS, "AWS::EC2::SecurityGroup", "AWS::EC2::FlowLog"} == set()
    assert handlers(assembly) == set(TIMEOUTS_S)

    # and the table has no index of executions, the bus no rule, and no function a setting of them
    [index] = assembly.only("DynamoDB::Table")["GlobalSecondaryIndexes"]
    assert index["IndexName"] != EXECUTION_INDEX
    assert "ScheduleExpression" in assembly.only("Events::Rule")
    told = {
        name for one in assembly.of_type("Lambda::Function").values() for name in one["Environment"]["Variables"]
    }
    assert {name for name in told if name.startswith(tuple(one.upper() for one in EXTERNAL))} == set()
    assert {"EXECUTORS", "STARTER", "SLOTS_TABLE", "STATE_MACHINE_ARN"} & told == set()


@each_alone
def test_a_stage_with_one_has_nothing_of_the_others(alone: Assembly, request: pytest.FixtureRequest) -> None:
    # given a stage with one executor
    only = ALONE[request.node.callspec.params["alone"]]

    # then it has each kind of resource that this one needs, and no other
    assert kinds(alone) & set(OWN_KINDS) == {kind for kind, of in OWN_KINDS.items() if only in of}
    has_workflow = "workflow-step" in handlers(alone)
    assert has_workflow == (only == STEP_FUNCTIONS)

    # and functions are told of this one
    starter = variables(alone, "starter")
    assert set(configured_executors({name: str(value) for name, value in starter.items()})) == {only}
    assert [one for one in EXTERNAL if f"{one.upper()}_QUEUE_URL" in starter] == [only]


@each_alone
def test_a_stage_with_one_is_clean(alone: Assembly) -> None:
    assert violations(alone) == []
    for file in alone.template_files:
        assert findings(file.read_text()) == [], file.name


def test_a_stage_with_all_is_clean(longwork: Assembly) -> None:
    assert violations(longwork) == []
    for file in longwork.template_files:
        assert findings(file.read_text()) == [], file.name


def test_what_drains_takes_no_job_type(variants: dict[str, Assembly]) -> None:
    # given a stage that has an executor only until its jobs are over
    stage = variants["ecs_draining"]

    # then no job type goes there, and all that starts, settles and stops is told of it
    assert "EXECUTORS" not in variables(stage, "processor")
    for module in ("starter", "completion", "reconciler", "cancel_job"):
        assert "ECS_CLUSTER" in variables(stage, module), module


def test_a_stage_has_the_functions_that_its_settings_say(longwork: Assembly) -> None:
    timeouts = timeouts_s(stage_config("longwork"))
    assert handlers(longwork) == set(timeouts)
    for one in longwork.of_type("Lambda::Function").values():
        assert one["Timeout"] == timeouts[one["Handler"].split(".")[1].replace("_", "-")], one["Handler"]


@pytest.mark.parametrize("module", ["starter", "completion", "reconciler", "cancel_job"])
def test_functions_are_told_all_that_executors_are_made_of(longwork: Assembly, module: str) -> None:
    told = {name: json.dumps(value) for name, value in variables(longwork, module).items()}
    assert list(configured_executors(told)) == list(EXTERNAL)


def test_the_processor_is_told_where_job_types_go(longwork: Assembly) -> None:
    # given what the processor is told
    told = variables(longwork, "processor")

    # then it knows each job type's executor, each executor's queue, and whom to wake
    assert told["EXECUTORS"] == stage_config("longwork").executors
    for executor in EXTERNAL:
        url = told[f"{executor.upper()}_QUEUE_URL"]
        assert short(logical_id(url)) == f"{executor.title()}Queue"
        assert longwork.outputs[f"{executor.title()}QueueUrl"] == url
    assert longwork.invoked(told["STARTER"]) == longwork.function("starter")[0]


def test_the_sweeper_is_told_of_each_queue_that_holds_jobs(longwork: Assembly) -> None:
    told = variables(longwork, "sweeper")
    queues = longwork.of_type("SQS::Queue")
    for executor in EXTERNAL:
        queue = queues[logical_id(variables(longwork, "starter")[f"{executor.upper()}_QUEUE_URL"])]
        target = logical_id(queue["RedrivePolicy"]["deadLetterTargetArn"])
        assert logical_id(told[f"{executor.upper()}_DLQ_URL"]) == target


def test_the_starter_has_the_time_that_its_messages_are_hidden(longwork: Assembly) -> None:
    # given that the starter polls by itself, and that no mapping reads its queues
    timeout = longwork.function("starter")[1]["Timeout"]
    mapped = {logical_id(one["EventSourceArn"]) for one in longwork.of_type("Lambda::EventSourceMapping").values()}

    # then a message stays hidden for longer than it lives, and nobody else receives it
    for executor in EXTERNAL:
        queue = logical_id(variables(longwork, "starter")[f"{executor.upper()}_QUEUE_URL"])
        assert longwork.of_type("SQS::Queue")[queue]["VisibilityTimeout"] >= 6 * timeout
        assert queue not in mapped


@pytest.mark.parametrize(
    ("alone", "expected_s"), [("batch_alone", 13 * DAY_S), ("ecs_draining", DAY_S)], indirect=["alone"]
)
def test_no_row_expires_while_its_job_waits_or_runs(alone: Assembly, expected_s: int) -> None:
    # given how long the stage's rows last, and how long a job of its executor may run
    told = variables(alone, "starter")
    [executor] = configured_executors({name: str(value) for name, value in told.items()})
    rows_s, timeout_s = int(told["RETENTION_SECONDS"]), int(told[f"{executor.upper()}_TIMEOUT_SECONDS"])

    # then the executor's queue keeps jobs for as long as it can within that, and not for SQS's four days
    queue = alone.of_type("SQS::Queue")[logical_id(told[f"{executor.upper()}_QUEUE_URL"])]
    assert queue["MessageRetentionPeriod"] == expected_s
    # and there is a day in which a job may wait for its host
    assert expected_s + DAY_S + timeout_s <= rows_s


def test_the_starter_and_the_reconciler_run_each_minute(longwork: Assembly) -> None:
    rules = longwork.of_type("Events::Rule").values()
    scheduled = {
        longwork.invoked(target["Arn"]): rule["ScheduleExpression"]
        for rule in rules
        if "ScheduleExpression" in rule
        for target in rule["Targets"]
    }
    for module in ("starter", "reconciler"):
        assert scheduled[longwork.function(module)[0]] == "rate(1 minute)", module


def test_executions_that_are_not_over_have_an_index(longwork: Assembly) -> None:
    table = longwork.of_type("DynamoDB::Table")["StorageJobs4C7573CB"]
    [index] = [one for one in table["GlobalSecondaryIndexes"] if one["IndexName"] == EXECUTION_INDEX]
    assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}
    keys = [(key["AttributeName"], key["KeyType"]) for key in index["KeySchema"]]
    assert keys == [("executing", "HASH"), ("executingSince", "RANGE")]


# --- containers


def batch_container(assembly: Assembly) -> Properties:
    found: Properties = assembly.only("Batch::JobDefinition")["ContainerProperties"]
    return found


def ecs_container(assembly: Assembly) -> Properties:
    [found] = assembly.only("ECS::TaskDefinition")["ContainerDefinitions"]
    return dict(found)


@pytest.mark.parametrize("container", [batch_container, ecs_container])
def test_a_container_runs_one_job_and_can_write_nothing(
    container: Callable[[Assembly], Properties], longwork: Assembly
) -> None:
    # given a container as the service is to run it
    definition = container(longwork)

    # then it is the entry point of core, with all its settings but the job's, by nobody's user
    assert definition["Command"] == ["python", "-m", "sluice_core.run_job"]
    assert {one["Name"] for one in definition["Environment"]} == set(run_job.OF_THE_STAGE)
    assert definition["User"].split(":")[0] not in ("0", "root")
    assert definition["ReadonlyRootFilesystem"] is True
    assert definition["Image"] == stage_config("longwork").batch.image
    assert definition["LogConfiguration"]["LogDriver"] == "awslogs"


def test_batch_tries_a_job_once_and_ends_what_does_not_end(longwork: Assembly) -> None:
    # given the definition, then tries are the ledger's and the container's own timeout comes first
    definition = longwork.only("Batch::JobDefinition")
    assert definition["RetryStrategy"] == {"Attempts": 1}
    own = stage_config("longwork").batch.timeout_s
    assert definition["Timeout"]["AttemptDurationSeconds"] > own
    assert {"Name": "WORK_TIMEOUT_SECONDS", "Value": str(own)} in batch_container(longwork)["Environment"]
    assert definition["PlatformCapabilities"] == ["FARGATE"]


def test_batch_has_room_for_every_slot(variants: dict[str, Assembly]) -> None:
    resources = variants["batch_alone"].only("Batch::ComputeEnvironment")["ComputeResources"]
    assert (resources["Type"], resources["MaxvCpus"]) == ("FARGATE", 50)


def test_ecs_finds_the_container_that_a_start_names_and_lets_it_end(longwork: Assembly) -> None:
    container = ecs_container(longwork)
    assert (container["Name"], container["StopTimeout"]) == (CONTAINER, 120)


@pytest.mark.parametrize(
    ("kind", "of"), [("Batch::JobDefinition", "ContainerProperties"), ("ECS::TaskDefinition", "")]
)
def test_containers_run_on_arm64_linux(kind: str, of: str, longwork: Assembly) -> None:
    definition = longwork.only(kind)
    platform = (definition[of] if of else definition)["RuntimePlatform"]
    assert platform == {"CpuArchitecture": "ARM64", "OperatingSystemFamily": "LINUX"}


def test_a_start_takes_the_newest_revision(longwork: Assembly) -> None:
    # given what a starter asks for, which may be older than the definitions
    told = variables(longwork, "starter")

    # then it is a name without a revision
    assert told["BATCH_JOB_DEFINITION"] == longwork.only("Batch::JobDefinition")["JobDefinitionName"]
    assert told["ECS_TASK_DEFINITION"] == longwork.only("ECS::TaskDefinition")["Family"]


# --- tools


def test_a_stage_with_all_can_be_described_from_its_outputs(longwork: Assembly) -> None:
    # given the outputs by name
    outputs = {name: f"value of {name}" for name in longwork.outputs}
    place = {"region": "us-east-1", "account": "000000000000", "endpointUrl": None}
    stage = from_outputs(outputs, [], stage="longwork", apiUrl=outputs["ApiUrl"], **place)

    # then it has each queue, function and thing of the executors, and none twice
    assert list(stage.queues.by_name()) == ["request", "work", *EXTERNAL, "completion"]
    assert set(stage.functions.by_handler()) == set(timeouts_s(stage_config("longwork")))
    things = [getattr(stage.executors, one.name) for one in fields(Executors)]
    urls = [url for queue in stage.queues.by_name().values() for url in (queue.url, queue.dlqUrl)]
    every = [*things, *urls, *stage.functions.by_handler().values()]
    assert all(every)
    assert len(set(every)) == len(every)
