"""Writes one HTML file that needs nothing else: no network, no server. A review is one, and a load test's report.

Everything that came from a stage, labels and log lines above all, is text to the template; the page's policy lets
nothing run but its own scripts and lets nothing be loaded. Templates extend ``base.html.j2``.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sluice_harness import node_packages
from sluice_harness.description import ROOT
from sluice_harness.review import figures
from sluice_harness.review.window import spoken, utc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HERE = Path(__file__).parent
_PACKAGE = ROOT / "packages" / "harness"


def render(
    template: Path, charts: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]], **context: Any
) -> str:
    """Return the page that a template makes.

    Parameters
    ----------
    template : Path
        Extends ``base.html.j2``, which is found wherever the template lies.
    charts : mapping
        What ``charts.js`` draws, by the name in an element's ``data-chart``.
    filters : mapping
        What the template needs beside figures, durations, shares, money and times.
    context : Any
        What it shows.

    Raises
    ------
    NpmError
        ECharts is not there and cannot be installed.

    """
    scripts = [_script(node_packages.install(_PACKAGE, "echarts") / "dist" / "echarts.min.js")]
    scripts.append(_script(HERE / "charts.js"))
    environment = Environment(
        loader=FileSystemLoader([template.parent, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=figures.figure,
        duration=figures.duration,
        percent=figures.percent,
        money=figures.money,
        utc=utc,
        spoken=spoken,
        **filters,
    )
    return environment.get_template(template.name).render(
        style=Markup((HERE / "page.css").read_text()),  # noqa: S704 - our own file
        scripts=scripts,
        policy=_policy(scripts),
        charts=charts,
        **context,
    )


def _script(path: Path) -> Markup:
    return Markup(path.read_text().replace("</script", r"<\/script"))  # noqa: S704 - not a stage's, but ours and npm's


def _policy(scripts: Sequence[str]) -> str:
    """Return a Content-Security-Policy that lets these very scripts run and nothing be fetched."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
