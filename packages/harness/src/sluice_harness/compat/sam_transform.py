"""Parameters in a SAM template: what CloudFormation knows of them before it expands the template.

MiniStack expands ``AWS::Serverless-2016-10-31`` with AWS's own translator, but gives it no values: it takes every
parameter at its default, and refuses a template whose parameter decides something and has none. In AWS a macro
gets "any template parameters specified in the Parameters section of the template. CloudFormation evaluates these
parameters before passing them" (AWS CloudFormation User Guide, "Create a CloudFormation macro definition").

The translator falls back on a parameter's default, so this is closed by expanding a copy of the template in which
the defaults are the values given.
"""

from __future__ import annotations

import logging
from typing import Any

from ministack.services.cloudformation import changesets, engine, handlers

from sluice_harness.compat.patching import expect

Template = dict[str, Any]
_APPLY = "_apply_transforms"


def apply() -> None:
    """Expand templates with their parameters' values."""
    expand = expect(engine, _APPLY, "template", "provided_params", "previous_params")
    expect(engine, "_transform_parameters", "template", "provided_params", "previous_params")
    expect(engine, "declared_transforms", "template")

    def expand_with_values(template: Template, provided_params: Any = None, previous_params: Any = None) -> Any:
        parameters = template.get("Parameters")
        if not parameters or engine._SAM_TRANSFORM not in engine.declared_transforms(template):
            return expand(template, provided_params, previous_params)
        values = engine._transform_parameters(template, provided_params, previous_params)
        valued = {name: {**parameters[name], "Default": value} for name, value in values.items()}
        expanded = expand({**template, "Parameters": {**parameters, **valued}}, provided_params, previous_params)
        expanded["Parameters"] = parameters
        return expanded

    for module in (engine, changesets, handlers):
        if getattr(module, _APPLY, None) is not expand:
            raise RuntimeError(f"{module.__name__} does not expand templates by {_APPLY} any more")
        setattr(module, _APPLY, expand_with_values)
    # It warns each time that it has sent its metrics to nobody.
    logging.getLogger("samtranslator.metrics.metrics").setLevel(logging.ERROR)
