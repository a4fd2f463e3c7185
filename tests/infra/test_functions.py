"""Functions: one runtime, traced, with log groups that are declared and expire."""

from __future__ import annotations

import pytest
from infra.assemblies import Assembly, logical_id

pytestmark = pytest.mark.xdist_group("infra")


def test_functions_run_on_arm64_and_python_3_13(assembly: Assembly) -> None:
    for name, function in assembly.of_type("Lambda::Function").items():
        assert function["Architectures"] == ["arm64"], name
        assert function["Runtime"] == "python3.13", name


def test_functions_are_traced(assembly: Assembly) -> None:
    for name, function in assembly.of_type("Lambda::Function").items():
        assert function["TracingConfig"] == {"Mode": "Active"}, name


def test_lambda_logs_no_lines_of_its_own_for_what_went_well(assembly: Assembly) -> None:
    for name, function in assembly.of_type("Lambda::Function").items():
        logging = function["LoggingConfig"]
        assert (logging["LogFormat"], logging["SystemLogLevel"]) == ("JSON", "WARN"), name


def test_functions_know_their_stage(assembly: Assembly) -> None:
    for name, function in assembly.of_type("Lambda::Function").items():
        assert function["Environment"]["Variables"]["STAGE"] == assembly.stage, name


def test_functions_are_the_handlers_of_one_package(assembly: Assembly) -> None:
    # given every function's entry point
    handlers = [function["Handler"] for function in assembly.of_type("Lambda::Function").values()]

    # then each is a module of ours, and none is there twice
    assert all(handler.startswith("sluice_handlers.") and handler.endswith(".handler") for handler in handlers)
    assert len(set(handlers)) == len(handlers)


def test_every_function_logs_to_a_declared_group_of_its_own(assembly: Assembly) -> None:
    # given the functions' log groups
    functions = assembly.of_type("Lambda::Function").values()
    groups = [logical_id(function["LoggingConfig"]["LogGroup"]) for function in functions]

    # then no two share one, and all are in the template, where their retention is
    assert len(set(groups)) == len(groups)
    assert set(groups) <= set(assembly.of_type("Logs::LogGroup"))


def test_every_function_may_write_to_its_own_log_group_only(assembly: Assembly) -> None:
    for name, function in assembly.of_type("Lambda::Function").items():
        # given what the function's role may do with logs
        writes = [
            statement
            for statement in assembly.statements_of_role(logical_id(function["Role"]))
            if "logs:PutLogEvents" in statement["Action"]
        ]

        # then it is to write to the group that the function names
        resources = [logical_id(statement["Resource"]) for statement in writes]
        assert resources == [logical_id(function["LoggingConfig"]["LogGroup"])], name


def test_every_log_group_expires(assembly: Assembly) -> None:
    for name, group in assembly.of_type("Logs::LogGroup").items():
        assert group["RetentionInDays"] <= 400, name
