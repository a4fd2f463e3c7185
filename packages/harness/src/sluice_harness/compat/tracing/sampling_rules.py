"""X-Ray's sampling rules: how many requests a service records, by the rule that matches it first.

MiniStack samples every invocation of an actively traced function, decides nothing at the gateway and knows no
``AWS::XRay::SamplingRule``, for want of which it rejects a whole stack. In AWS the first service that a request
meets decides, unless its caller has. It takes the matching rule of the lowest priority, records its reservoir of
requests each second and its rate of the others, and falls back to a default rule: one each second and five
percent (X-Ray Developer Guide, "Configuring sampling rules"). Ref is the rule's ARN (CloudFormation template
reference).

Closed with handlers that keep the rules, and a sampler that asks them. A rule matches by resource only here, and
one that asks for more is refused. Each service has a reservoir of its own, as long as X-Ray has not assigned
quotas (X-Ray Developer Guide, "Sampling rule options").
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ministack.core.responses import get_account_id, get_region
from ministack.services.cloudformation import provisioners

from sluice_harness.compat.patching import expect

Properties = dict[str, Any]
RULE = "AWS::XRay::SamplingRule"
_ANY = ("Host", "HTTPMethod", "ServiceName", "ServiceType", "URLPath")


@dataclass(frozen=True, slots=True)
class Rule:
    """How much of a resource's requests is recorded.

    Attributes
    ----------
    priority : int
        The lowest of those that match counts, 1 to 9,999.
    reservoir : int
        How many requests a second are recorded first.
    rate : float
        The share of the others, 0 to 1.

    """

    name: str
    resource: str
    priority: int
    reservoir: int
    rate: float


DEFAULT = Rule("Default", "*", 10_000, 1, 0.05)
_rules: dict[str, Rule] = {}  # by ARN


class Sampler:
    """The decisions of services that nobody has decided for."""

    def __init__(self) -> None:
        self._second = 0
        self._met: Counter[str] = Counter()  # requests of this second, by resource

    def decide(self, resource: str) -> bool:
        """Whether to record the request that the resource of this ARN has just met."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._met.clear()
        self._met[resource] += 1
        rule = of(resource)
        return self._met[resource] <= rule.reservoir or random.random() < rule.rate  # noqa: S311 - no secret


def apply() -> None:
    """Register the handlers."""
    handlers = expect(provisioners, "_RESOURCE_HANDLERS")
    if RULE in handlers:
        raise RuntimeError(f"the engine knows {RULE} now: look whether {__name__} is needed still")
    handlers[RULE] = {"create": _create, "update": _update, "delete": _delete}


def of(resource: str) -> Rule:
    """Return the rule that a resource's requests fall under, by its ARN."""
    matching = [rule for rule in _rules.values() if fnmatchcase(resource, rule.resource)]
    return min(matching, key=lambda rule: rule.priority, default=DEFAULT)


def _create(_logical_id: str, props: Properties, _stack_name: str) -> tuple[str, dict[str, str]]:
    rule = _read(props)
    arn = f"arn:aws:xray:{get_region()}:{get_account_id()}:sampling-rule/{rule.name}"
    if arn in _rules:
        raise ValueError(f"the sampling rule {rule.name} already exists")
    _rules[arn] = rule
    return arn, {"RuleARN": arn, "RuleName": rule.name}


def _update(
    physical_id: str, _old: Properties, new_props: Properties, stack_name: str
) -> tuple[str, dict[str, str]]:
    rule = _read(new_props)
    if rule.name != _rules[physical_id].name:  # replaced: the former one is deleted once the update has succeeded
        return _create("", new_props, stack_name)
    _rules[physical_id] = rule
    return physical_id, {"RuleARN": physical_id, "RuleName": rule.name}


def _delete(physical_id: str, _props: Properties) -> None:
    _rules.pop(physical_id, None)


def _read(props: Properties) -> Rule:
    told = props["SamplingRule"]
    if any(told[name] != "*" for name in _ANY) or told.get("Attributes"):
        raise ValueError(f"a {RULE} matches by ResourceARN here: leave {', '.join(_ANY)} at *")
    rate, priority = float(told["FixedRate"]), int(told["Priority"])
    if not (0 <= rate <= 1 and 1 <= priority < DEFAULT.priority):
        raise ValueError(f"a {RULE} has a FixedRate of 0 to 1 and a Priority of 1 to 9999")
    return Rule(told["RuleName"], told["ResourceARN"], priority, int(told["ReservoirSize"]), rate)
