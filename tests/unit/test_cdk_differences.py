"""What a deployment would change, in a line: nobody reads a thousand."""

from __future__ import annotations

from sluice_harness.cdk_cli import is_all_new, new_by_type, summary

FIRST = """\
Stack sluice-ann-auth
IAM Statement Changes
┌───┬──────────┬────────┐
│ + │ Resource │ Effect │
└───┴──────────┴────────┘
Parameters
[+] Parameter BootstrapVersion BootstrapVersion: {"Type":"AWS::SSM::Parameter::Value<String>"}

Resources
[+] AWS::Cognito::UserPool UserPool UserPool6BA7E5F2
[+] AWS::SQS::Queue Work/Queue WorkQueueF1B2
[+] AWS::SQS::Queue Work/DeadLetters WorkDeadLettersA1

Outputs
[+] Output UserPoolId UserPoolId: {"Value":{"Ref":"UserPool6BA7E5F2"}}
"""
LATER = """\
Stack sluice-ann-ingestion
Resources
[-] AWS::SQS::Queue Old/Queue OldQueueF1B2 destroy
[+] AWS::SQS::Queue New/Queue NewQueueF1B2
[~] AWS::Lambda::Function Processor/Function ProcessorFunction1F2
 └─ [~] MemorySize
     ├─ [-] 512
     └─ [+] 1024
[~] AWS::DynamoDB::Table Storage/Jobs StorageJobs4C75 replace
 └─ [~] KeySchema (requires replacement)
[~] AWS::Lambda::Version Processor/Function/Version ProcessorVersion9 may be replaced
"""


def test_a_first_deployment_is_told_by_type() -> None:
    # given a difference in which there is nothing yet, then it is counted, without what is no resource
    assert is_all_new(FIRST)
    assert new_by_type(FIRST).splitlines() == ["    2 AWS::SQS::Queue", "    1 AWS::Cognito::UserPool"]
    assert summary(FIRST) == "3 new, 0 changed, 0 removed"


def test_what_is_replaced_is_named() -> None:
    # given changes of what is there, some of which take its place
    assert not is_all_new(LATER)
    counts, _, replaced = summary(LATER).partition("; REPLACED: ")

    # then they are counted, and those are named
    assert counts == "1 new, 3 changed, 1 removed"
    assert replaced == "AWS::DynamoDB::Table Storage/Jobs, AWS::Lambda::Version Processor/Function/Version"


def test_no_difference_is_none() -> None:
    nothing = "Stack sluice-ann-auth\nThere were no differences\n\n✨  Number of stacks with differences: 0"
    assert not is_all_new(nothing)
    assert summary(nothing) == "0 new, 0 changed, 0 removed"
