"""YAML as people read it: in its own order, with texts of several lines as blocks, and without anchors."""

from __future__ import annotations

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # it ships no types
    """Writes everything where it stands: CloudFormation's own tools take anchors and aliases in part only."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - none of them
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def dump(content: Any) -> str:
    """Return a document as YAML.

    Raises
    ------
    yaml.YAMLError
        It holds something else than maps, lists, texts, numbers, truths and nothing.

    """
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text
