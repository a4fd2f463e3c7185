"""`$input` and `$util`, as a mapping template knows them.

AWS: "Variables for data transformations for API Gateway", sections `$input` and `$util`.
"""

from __future__ import annotations

import base64
import json
import re
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, unquote_plus

from sluice_harness.compat.gateway import java_values

if TYPE_CHECKING:
    from sluice_harness.compat.gateway.exchange import Exchange

_STEP = re.compile(r"\.?([\w-]+)|\.?\*|\[\s*(?:'([^']*)'|\"([^\"]*)\"|(-?\d+)|\*)\s*\]")
_NON_LATIN = 0x7F


class _Headers(dict[str, str]):
    """Headers by name, whatever the case: the engine and HTTP/2 lower it, templates are written in any."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())


class Input:
    """`$input`: the payload being mapped, and the parameters of the method's request."""

    def __init__(self, exchange: Exchange, payload: bytes | str) -> None:
        self._exchange = exchange
        self._text = payload if isinstance(payload, str) else payload.decode("utf-8", errors="replace")

    @property
    def body(self) -> str:
        """The payload as it came; API Gateway reads an empty one as an empty object."""
        return self._text or "{}"

    def json(self, path: str = "$") -> str:
        """Return the value at ``path`` as JSON text; nothing there is an empty string."""
        found = self._find(path)
        return '""' if found is None else json.dumps(found, separators=(",", ":"), ensure_ascii=False)

    def path(self, path: str = "$") -> Any:
        """Return the value at ``path`` as an object; nothing there renders as nothing."""
        found = self._find(path)
        return "" if found is None else found

    def params(self, name: str | None = None) -> Any:
        """All parameters by place, or one of them looked for in path, query string and headers in turn."""
        if name is None:
            return self._parameters
        for place in ("path", "querystring", "header"):
            value = self._parameters[place].get(name)
            if value is not None:
                return value
        return ""

    @cached_property
    def _parameters(self) -> dict[str, dict[str, Any]]:
        return {
            "path": dict(self._exchange.path_params),
            "querystring": {name: values[-1] for name, values in self._exchange.query.items() if values},
            "header": _Headers({name.lower(): value for name, value in self._exchange.headers.items()}),
        }

    @cached_property
    def _document(self) -> Any:
        try:
            return json.loads(self._text or "{}")
        except ValueError:
            return None

    def _find(self, path: str) -> Any:
        return find(self._document, path)


def find(document: Any, path: str) -> Any:
    """Return the value at a JSONPath made of names, indexes and wildcards; None where there is none."""
    found = document
    for name, wildcard in _steps(path):
        if wildcard:
            found = list(found.values()) if isinstance(found, dict) else found
        elif isinstance(found, list) and isinstance(name, str):
            found = [java_values.item(each, name) for each in found if isinstance(each, dict)]
        else:
            found = java_values.item(found, name)
    return found


@lru_cache(maxsize=256)
def _steps(path: str) -> list[tuple[str | int, bool]]:
    steps: list[tuple[str | int, bool]] = []
    for match in _STEP.finditer(path.strip().removeprefix("$")):
        name = next((group for group in match.groups()[:3] if group is not None), None)
        if name is not None:
            steps.append((name, False))
        elif match[4] is not None:
            steps.append((int(match[4]), False))
        else:
            steps.append(("*", True))
    return steps


class Util:
    """`$util`: encoders and decoders. The methods' names are the templates'."""

    def urlEncode(self, text: Any) -> str:  # noqa: N802
        """``text`` as Java's URLEncoder writes it: everything escaped but letters, digits and ``.-*_``."""
        return quote_plus(_plain(text), safe="*").replace("~", "%7E")

    def urlDecode(self, text: Any) -> str:  # noqa: N802
        """Undo `urlEncode`."""
        return unquote_plus(_plain(text))

    def escapeJavaScript(self, text: Any) -> str:  # noqa: N802
        """``text`` with JavaScript's escapes, of single quotes too, which JSON does not allow."""
        return "".join(_escaped(character) for character in _plain(text))

    def base64Encode(self, data: Any) -> str:  # noqa: N802
        """Encode ``data`` in base 64."""
        return base64.b64encode(_plain(data).encode()).decode()

    def base64Decode(self, text: Any) -> str:  # noqa: N802
        """Decode base 64 to text."""
        return base64.b64decode(_plain(text)).decode("utf-8", errors="replace")

    def parseJson(self, text: Any) -> Any:  # noqa: N802
        """Read JSON."""
        return json.loads(_plain(text))


def _plain(value: Any) -> str:
    return "" if value is None else java_values.to_text(value)


_ESCAPES = {'"': '\\"', "'": "\\'", "\\": "\\\\", "/": "\\/"}
_ESCAPES |= {"\b": "\\b", "\n": "\\n", "\t": "\\t", "\f": "\\f", "\r": "\\r"}


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character >= " " and ord(character) < _NON_LATIN:
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at] * 256 + units[at + 1]:04X}" for at in range(0, len(units), 2))


UTIL = Util()
