"""What a package leaves open: its parameters, and where in the template each of them goes.

A name that stands in many places, within longer texts too, has a stand-in in the settings of the stage that is
packaged (``packagedstage`` in infra's ``stages.py``), and the stand-in becomes a reference wherever it is found. A
size has places: types of resources and the way to the property, whose value there becomes the default.

No parameter but the stage's name, which never changes, goes into a function's own settings. A function runs as the
version that its alias points to, and CloudFormation publishes one for a new template, not for a parameter's value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# The stage that is packaged, which is the stand-in for the name of any.
PACKAGED_STAGE = "packagedstage"
STAGE, BUCKET, SHIFT = "StageName", "CodeBucket", "TrafficShift"
# AWS CodeDeploy, "Deployment configurations on an AWS Lambda compute platform"; all at once needs no CodeDeploy.
ALL_AT_ONCE = "AllAtOnce"
_SHIFTS = [
    *(f"Canary10Percent{minutes}Minutes" for minutes in (5, 10, 15, 30)),
    *(f"Linear10PercentEvery{every}" for every in ("1Minute", "2Minutes", "3Minutes", "10Minutes")),
]
# CloudWatch Logs API reference, "PutRetentionPolicy".
_RETENTIONS = [
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653),
]


@dataclass(frozen=True, slots=True)
class Place:
    """Properties that take a parameter's value.

    Attributes
    ----------
    kind : str
        The type of the resources.
    path : tuple of str
        The way to the property; ``*`` is every element of a list.
    owner : str
        What the logical ids begin with: the name of the construct that they are in.
    prefix : str
        What the value begins with besides.

    """

    kind: str
    path: tuple[str, ...]
    owner: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of the template.

    Attributes
    ----------
    name, group, label, description : str
        What CloudFormation's console shows, and under which heading.
    rules : mapping
        Its type and constraints, as CloudFormation has them, and a default that no place has.
    stand_in : str
        The text that becomes a reference to it.
    places : tuple of Place
        The properties that do.
    nothing : str, optional
        The value that it has if `serves` is not wanted.
    serves : str
        What the logical ids begin with of resources that are there only if it has another value.

    """

    name: str
    group: str
    label: str
    description: str
    rules: Mapping[str, Any]
    stand_in: str = ""
    places: tuple[Place, ...] = ()
    nothing: str | None = None
    serves: str = ""

    @property
    def condition(self) -> str:
        """The name of the condition that it has another value than nothing."""
        return f"Has{self.name}"


_COUNT = {"Type": "Number", "MinValue": 1}
_CONCURRENCY = {"Type": "Number", "MinValue": 2, "MaxValue": 1_000}
_MAPPING = "AWS::Lambda::EventSourceMapping"
PARAMETERS = (
    Parameter(
        name=STAGE,
        group="Stage",
        label="Name of the stage",
        description="Part of many names. It never changes: another stage needs a stack of its own.",
        rules={"Type": "String", "AllowedPattern": "[a-z]([a-z0-9-]{0,18}[a-z0-9])?"},
        stand_in=PACKAGED_STAGE,
    ),
    Parameter(
        name=BUCKET,
        group="Stage",
        label="Bucket with the functions' code",
        description="The bucket, in this region, that the files of the folder functions were uploaded to.",
        rules={"Type": "String", "AllowedPattern": "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"},
    ),
    Parameter(
        name="ThrottleRate",
        group="Sizes",
        label="Requests a second",
        description="Requests a second of the whole API; above it clients are answered with 429.",
        rules=_COUNT,
        places=(Place("AWS::ApiGateway::Stage", ("MethodSettings", "*", "ThrottlingRateLimit")),),
    ),
    Parameter(
        name="ThrottleBurst",
        group="Sizes",
        label="Burst of requests",
        description="Requests that may come at once; at least ThrottleRate.",
        rules=_COUNT,
        places=(Place("AWS::ApiGateway::Stage", ("MethodSettings", "*", "ThrottlingBurstLimit")),),
    ),
    Parameter(
        name="ProcessorConcurrency",
        group="Sizes",
        label="Batches recorded at once",
        description="How many batches of submissions are recorded at once.",
        rules=_CONCURRENCY,
        places=(Place(_MAPPING, ("ScalingConfig", "MaximumConcurrency"), owner="Processor"),),
    ),
    Parameter(
        name="WorkConcurrency",
        group="Sizes",
        label="Batches worked on at once",
        description="How many batches of jobs are worked on at once: what the work calls has to bear it.",
        rules=_CONCURRENCY,
        places=(Place(_MAPPING, ("ScalingConfig", "MaximumConcurrency"), owner="BatchSimulator"),),
    ),
    Parameter(
        name="LogDays",
        group="Observation",
        label="Days that logs are kept",
        description="Days that log groups are kept.",
        rules={"Type": "Number", "AllowedValues": _RETENTIONS},
        places=(Place("AWS::Logs::LogGroup", ("RetentionInDays",)),),
    ),
    Parameter(
        name="TraceRate",
        group="Observation",
        label="Share of requests traced",
        description="The share of requests (0 to 1) that X-Ray records beyond the first of each second.",
        rules={"Type": "Number", "MinValue": 0, "MaxValue": 1},
        places=(Place("AWS::XRay::SamplingRule", ("SamplingRule", "FixedRate")),),
    ),
    Parameter(
        name="AlarmEmail",
        group="Observation",
        label="Address for alarms (optional)",
        description="Who is told of alarms by mail, and has to confirm it once; empty for nobody.",
        rules={"Type": "String", "Default": "", "AllowedPattern": r"([^@\s]+@[^@\s]+)?"},
        stand_in="alarms@packaged.example",
        nothing="",
        serves="Alarmsalarms",
    ),
    Parameter(
        name=SHIFT,
        group="Releases",
        label="How a new version takes over",
        description="How traffic shifts to a function's new version, watched by alarms that take it back.",
        rules={"Type": "String", "AllowedValues": [ALL_AT_ONCE, *_SHIFTS]},
        places=(
            Place(
                "AWS::CodeDeploy::DeploymentGroup", ("DeploymentConfigName",), prefix="CodeDeployDefault.Lambda"
            ),
        ),
        nothing=ALL_AT_ONCE,
        serves="Releases",
    ),
)
