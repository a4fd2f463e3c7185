"""The stages: every setting in which they differ, in one place. A wrong one is an error of that stage's synthesis.

`local`, `dev`, `staging` and `prod` are written down below. Every other name is somebody's personal stage: dev's
settings under a name of its own, so that several live side by side in one account.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, is_dataclass, replace
from itertools import chain
from operator import attrgetter
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from aws_cdk import aws_logs as logs
from sluice_core.workloads import load_workloads

from sluice_infra.executor_settings import Containers, Workflows, demands, external_executors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# How long log groups can be kept here, in days.
LOG_RETENTIONS: Mapping[int, logs.RetentionDays] = {
    7: logs.RetentionDays.ONE_WEEK,
    14: logs.RetentionDays.TWO_WEEKS,
    30: logs.RetentionDays.ONE_MONTH,
    90: logs.RetentionDays.THREE_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
}
# CodeDeploy's ways to shift a function's traffic (AWS CodeDeploy, "Deployment configurations on an AWS Lambda
# compute platform"). Its LambdaAllAtOnce is left out: that is what None does.
TrafficShift = Literal[
    "Canary10Percent5Minutes",
    "Canary10Percent10Minutes",
    "Canary10Percent15Minutes",
    "Canary10Percent30Minutes",
    "Linear10PercentEvery1Minute",
    "Linear10PercentEvery2Minutes",
    "Linear10PercentEvery3Minutes",
    "Linear10PercentEvery10Minutes",
]
_ARN = {
    "acm": re.compile(r"arn:[a-z-]+:acm:[a-z0-9-]+:\d{12}:certificate/."),
    "wafv2": re.compile(r"arn:[a-z-]+:wafv2:[a-z0-9-]+:\d{12}:regional/webacl/."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """From where on a stage's alarms fire; in the unit that each name ends in.

    Attributes
    ----------
    request_age_s, work_age_s : int
        How long a message may wait in its queue: 1.5 times what is expected (CloudWatch, "Recommended alarms"); in
        that of an external executor, as long as one of its jobs may take if that is longer.
    drain_s : int
        How long the backlog of work may take to drain at its present rate; longer where it may wait longer.
    iterator_age_s : int
        How late job events may be.
    timeout_share : float
        How much of its timeout a function's invocations may take, at the 90th percentile.
    api_latency_ms : int
        How long a request may take, at the 90th percentile.
    api_4xx_share : float
        How many of the requests may be refused.
    batch_item_failures : int
        How many messages may fail in a minute.
    account_concurrency : int
        The account's quota of concurrent executions in this region.
    availability_objective, latency_objective : float
        The shares of submissions and of jobs that are to be good in 30 days.
    latency_ms : int
        From submission to COMPLETED, what counts as good.

    """

    request_age_s: int = 60
    work_age_s: int = 900
    drain_s: int = 3_600
    iterator_age_s: int = 300
    timeout_share: float = 0.8
    api_latency_ms: int = 2_500
    api_4xx_share: float = 0.05
    batch_item_failures: int = 10
    account_concurrency: int = 1_000
    availability_objective: float = 0.999
    latency_objective: float = 0.99
    latency_ms: int = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A name of one's own for the API.

    Attributes
    ----------
    name : str
        ``jobs.example.com``.
    certificate_arn : str
        Its certificate in ACM, in the stage's own region.
    hosted_zone_id : str
        The zone in Route 53 that gets its record.

    """

    name: str
    certificate_arn: str
    hosted_zone_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageConfig:
    """One stage's settings. Durations are in the unit that each name ends in.

    Attributes
    ----------
    name : str
        Part of the stacks' names: 1 to 20 lower-case letters, digits and hyphens, a letter first.
    protected : bool
        Keep user pool, table and bucket when the stack is deleted or a change would replace them.
    bundle_target : "lambda" or "host"
        Whose wheels the functions ship: arm64 Linux for AWS, this machine's for the local stage, whose
        functions run on this machine's Python.
    throttle_rate, throttle_burst : int
        Requests per second and burst of the whole API.
    processor_concurrency, work_concurrency : int
        Event-source MaximumConcurrency of the two queues (2-1,000). Never reserved concurrency, which
        throttles healthy messages into the dead-letter queue.
    memory_mib, work_memory_mib : int
        Memory of the functions, and of the one that does the jobs' work (128-10,240). CPU comes with it: one core
        at 1,769 (AWS Lambda, "Configure Lambda function memory").
    trace_rate : float
        The share of requests (0 to 1) that X-Ray records beyond the first of each second.
    log_level : "DEBUG" or "INFO"
        From where on the functions' lines are kept. Not higher: Lambda takes metrics in EMF for lines of level
        INFO and would drop them (AWS Lambda, "Log-level filtering").
    log_days, result_days : int
        How long log groups are kept, one of `LOG_RETENTIONS`, and how long rows and results.
    traffic_shift : TrafficShift, optional
        How a release takes over a function's traffic, watched by alarms that take it back. None: all at once, and
        CloudFormation takes it back only if the deployment itself fails.
    workloads : str
        Job types and the classes that do them: replace the weather simulation here.
    executors : str
        What runs a job type that a Lambda function is not to run: ``job-type=executor`` entries, separated by
        commas; ``stepfunctions``, ``batch`` or ``ecs``.
    stepfunctions : Workflows
        How much runs there at once, and for how long; of an executor that no job type uses it means nothing.
    batch, ecs : Containers
        The same for containers, with their image and size.
    draining : tuple of str
        Executors that no job type uses any more, kept until the jobs that they have are over.
    thresholds : Thresholds
        From where on the alarms fire.
    domain : Domain, optional
        The API's own domain name.
    web_acl_arn : str, optional
        A web ACL of WAF, in the stage's own region, that looks at each request first.
    alarm_emails : tuple of str
        Who is told of alarms by mail; each address has to confirm. Others subscribe to the topic as they like.
    runbooks : str
        Where the runbooks are, for the links in alarms: a folder of the repository, or where it is published.

    """

    name: str
    protected: bool = True
    bundle_target: Literal["lambda", "host"] = "lambda"
    throttle_rate: int = 1_000
    throttle_burst: int = 2_000
    processor_concurrency: int = 20
    work_concurrency: int = 50
    memory_mib: int = 512
    work_memory_mib: int = 1_024
    trace_rate: float = 0.01
    log_level: Literal["DEBUG", "INFO"] = "INFO"
    log_days: int = 30
    result_days: int = 30
    traffic_shift: TrafficShift | None = "Canary10Percent5Minutes"
    workloads: str = "weather-report=sluice_core.weather:WeatherReport"
    executors: str = ""
    stepfunctions: Workflows = field(default_factory=Workflows)
    batch: Containers = field(default_factory=Containers)
    ecs: Containers = field(default_factory=Containers)
    draining: tuple[str, ...] = ()
    thresholds: Thresholds = Thresholds()
    domain: Domain | None = None
    web_acl_arn: str | None = None
    alarm_emails: tuple[str, ...] = ()
    runbooks: str = "docs/runbooks"

    def check(self) -> None:
        """See that the stage can be so; not as soon as it is made, which would break all that are made beside it.

        Raises
        ------
        ValueError
            A setting has a value that it cannot have; the message names stage, setting and what it may be.

        """
        for setting, is_right, wanted in chain(_types(self), self._demands()):
            if not is_right:
                value = attrgetter(setting)(self)
                raise ValueError(f"stage {self.name}: {setting} must be {wanted}, not {value!r}")

    @property
    def external_executors(self) -> tuple[str, ...]:
        """The executors that the stage has besides ``lambda``."""
        return external_executors(self.executors, self.draining)

    def _demands(self) -> Iterator[tuple[str, bool, str]]:
        """Yield each setting that can be wrong, whether it is right, and what it may be."""
        is_name = bool(re.fullmatch(r"[a-z][a-z0-9-]{0,18}[a-z0-9]|[a-z]", self.name))
        yield "name", is_name, "1 to 20 lower-case letters, digits and hyphens, a letter first, no hyphen last"
        # Names of stacks and of what is in them would begin as another stage's do, and grants go by that.
        is_apart = not self.name.endswith(("-auth", "-ingestion", "-observability"))
        yield "name", is_apart, "another: that is how a stack of a stage ends"
        for setting in ("processor_concurrency", "work_concurrency"):
            yield setting, 2 <= getattr(self, setting) <= 1_000, "2-1,000"  # noqa: PLR2004 - MaximumConcurrency's
        for setting in ("memory_mib", "work_memory_mib"):
            yield setting, 128 <= getattr(self, setting) <= 10_240, "128-10,240"  # noqa: PLR2004 - Lambda's
        yield "throttle_rate", self.throttle_rate > 0, "more than 0"
        yield "throttle_burst", self.throttle_burst >= self.throttle_rate, "at least throttle_rate"
        yield "trace_rate", 0 <= self.trace_rate <= 1, "0-1"
        yield "log_level", self.log_level in ("DEBUG", "INFO"), "DEBUG or INFO"
        yield "log_days", self.log_days in LOG_RETENTIONS, f"one of {', '.join(map(str, LOG_RETENTIONS))}"
        yield "result_days", self.result_days > 0, "more than 0"
        shifts = get_args(TrafficShift)
        yield "traffic_shift", self.traffic_shift in (None, *shifts), f"None or one of {', '.join(shifts)}"
        domain = self.domain
        is_named = domain is None or bool(
            re.fullmatch(r"([a-z0-9-]+\.)+[a-z]+", domain.name) and _ARN["acm"].match(domain.certificate_arn)
        )
        yield "domain", is_named, "a domain name with the ARN of a certificate in ACM"
        is_acl = self.web_acl_arn is None or bool(_ARN["wafv2"].match(self.web_acl_arn))
        yield "web_acl_arn", is_acl, "the ARN of a regional web ACL"
        addresses = all(re.fullmatch(r"[^@\s]+@[^@\s]+", address) for address in self.alarm_emails)
        yield "alarm_emails", addresses, "addresses of mail"
        yield from self._demand_workloads()
        yield from demands(self)

    def _demand_workloads(self) -> Iterator[tuple[str, bool, str]]:
        try:
            load_workloads(self.workloads)
        except ValueError as error:
            yield "workloads", False, f"what can be loaded ({error})"


def _types(settings: Any, within: str = "") -> Iterator[tuple[str, bool, str]]:
    """Yield each setting, whether it is of its type, and that type."""
    for name, hint in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        wanted = f"of type {getattr(hint, '__name__', hint)}"
        if get_origin(hint) is tuple:  # parentheses alone make none
            wanted = "a tuple, whose last entry has a comma, too" + (f": ({value!r},)" if value else "")
        yield f"{within}{name}", _is_of(value, hint), wanted
        if is_dataclass(value):
            yield from _types(value, f"{within}{name}.")


def _is_of(value: object, hint: Any) -> bool:
    if get_origin(hint) is Literal:  # what it may be says `_demands`
        return True
    if get_origin(hint) in (Union, UnionType):
        return any(_is_of(value, one) for one in get_args(hint))
    return isinstance(value, (int, float) if hint is float else get_origin(hint) or hint)


_PROD = StageConfig(name="prod")
_DEV = replace(_PROD, name="dev", protected=False, log_days=7, result_days=7, traffic_shift=None)
_PACKAGED = replace(_PROD, name="packagedstage", alarm_emails=("alarms@packaged.example",))
# What is this machine's and not the stage's, whichever stage is on it.
_ON_ENGINE: Mapping[str, Any] = {
    "protected": False,
    "bundle_target": "host",
    "throttle_rate": 10_000,
    "throttle_burst": 10_000,
    # Three workers with work and two processors fill two cores; more would only wait for each other.
    "processor_concurrency": 2,
    "work_concurrency": 3,
    "traffic_shift": None,
    # Messages and invocations take real time where a stage's minutes may be a second each (`--speed`).
    "thresholds": Thresholds(
        request_age_s=10,
        work_age_s=20,
        iterator_age_s=10,
        timeout_share=0.1,
        account_concurrency=12,
        latency_ms=20_000,
    ),
    # What is in an account of AWS is not here, and nobody is to be woken.
    "domain": None,
    "web_acl_arn": None,
    "alarm_emails": (),
}
_LOCAL = replace(_PROD, name="local", **_ON_ENGINE)
# The local stage with every executor. Its containers are processes of this machine, whatever the image's digest.
_PROCESSES = Containers(
    image=f"000000000000.dkr.ecr.us-east-1.amazonaws.com/sluice-job@sha256:{'0' * 64}", max_running=3, timeout_s=60
)
_LONGWORK = replace(
    _LOCAL,
    name="longwork",
    workloads=",".join(
        f"weather-{kind}=sluice_core.weather:WeatherReport" for kind in ("report", "workflow", "batch", "task")
    ),
    executors="weather-workflow=stepfunctions,weather-batch=batch,weather-task=ecs",
    stepfunctions=Workflows(max_running=10, timeout_s=60),
    batch=_PROCESSES,
    ecs=_PROCESSES,
)
_STAGES = {
    "prod": _PROD,
    # As prod, so that what holds there will hold here too, but for what it keeps. A tenth of its little traffic
    # tells nothing of a release, so that gets more of it each minute.
    "staging": replace(_PROD, name="staging", protected=False, traffic_shift="Linear10PercentEvery1Minute"),
    "dev": _DEV,
    # What a package is made of: prod, with stand-ins that become parameters (`sluice_harness.package.parameters`).
    _PACKAGED.name: _PACKAGED,
    _LOCAL.name: _LOCAL,
    _LONGWORK.name: _LONGWORK,
}


def stage_config(name: str, *, on_engine: bool = False) -> StageConfig:
    """Return a stage's settings, a personal one's if the name is nobody else's.

    Parameters
    ----------
    name : str
        ``local``, ``dev``, ``staging``, ``prod``, or a name that somebody has chosen.
    on_engine : bool, optional
        Whether the stage is deployed to the local engine, and not to AWS. Sizes, throttles and thresholds are then
        the local stage's, and nothing of it is protected or in an account; what runs, and where, is its own.

    Raises
    ------
    ValueError
        The name is none that a stage can have, or a setting has a value that it cannot have.

    """
    config = _STAGES.get(name) or replace(_DEV, name=name)
    if config.name != name:
        raise ValueError(f"stage {name}: name must be {name!r} in its line, too, not {config.name!r}")
    if on_engine and config is _PACKAGED:  # it keeps its sizes, which are parameters
        config = replace(_PACKAGED, bundle_target="host")
    elif on_engine:
        config = replace(config, **_ON_ENGINE)
    config.check()
    return config
