"""Numbers as a person reads them."""

from __future__ import annotations

import math

NOTHING = "—"
_SECOND_MS = 1_000
_MINUTE_MS = 60_000
_CENT, _LEAST = 0.01, 0.0001


def figure(value: float | None, digits: int = 4) -> str:
    """Return a number with so many significant digits and none behind them, whole ones in full: ``1,234``."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration(milliseconds: float | None) -> str:
    """Return a duration in the unit that suits it."""
    if milliseconds is None:
        return NOTHING
    if milliseconds < _SECOND_MS:
        return f"{figure(milliseconds, 3)} ms"
    if milliseconds < _MINUTE_MS:
        return f"{figure(milliseconds / _SECOND_MS, 3)} s"
    return f"{figure(milliseconds / _MINUTE_MS, 3)} min"


def percent(share: float | None, digits: int = 5) -> str:
    """Return a share as per cent; never rounded up to 100 %, which would hide what failed."""
    if share is None:
        return NOTHING
    text = figure(100 * share, digits)
    return f"{'> 99.99' if text == '100' and share < 1 else text} %"


def money(dollars: float | None) -> str:
    """Return USD, small sums with as many places as they need."""
    if dollars is None:
        return NOTHING
    if 0 < dollars < _LEAST:
        return f"< {_LEAST:.4f}"
    return f"{dollars:.2g}" if 0 < dollars < _CENT else f"{dollars:,.2f}"
