"""A page of the documentation, followed as a reader would: files written, changes made, commands typed.

It happens in a copy of the checkout. Of a page's fenced blocks, ``python`` is a file and ``diff`` a change to one,
the path being in the sentence above; ``sh`` is typed into a shell, and ``text`` is what that printed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from sluice_harness.description import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PATIENCE_S = 300
_END = "-- typed --\n"
# Node's packages lie beside their lock files; they are what they are for the checkout.
_INSTALLED = (".venv", "packages/infra/node_modules")
# `uvx nox -s NAME -- ARGUMENTS` by the copy's noxfile, for sessions of one command, which it becomes. Nothing is
# installed: what is installed here serves the copy.
_UVX = """#!{python}
import importlib.util, os, sys
assert sys.argv[1:3] == ["nox", "-s"], sys.argv
spec = importlib.util.spec_from_file_location("noxfile", "noxfile.py")
noxfile = importlib.util.module_from_spec(spec)
spec.loader.exec_module(noxfile)
noxfile._install = lambda session: None

class Session:
    posargs = sys.argv[5:]

    def run(self, *command, external):
        os.execv(command[0], command)

getattr(noxfile, sys.argv[3])(Session())
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: what it is, what is in it, and the sentence above it."""

    kind: str
    text: str
    above: str

    @property
    def path(self) -> str:
        """The file that the sentence above names."""
        (path,) = re.findall(r"`([^`]+\.\w+)`", self.above)
        return str(path)


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in their order."""
    found, above = [], ""
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "fence":
            found.append(Block(token.info, token.content, above))
        elif token.type == "inline":
            above = token.content
    return found


def copy_checkout(folder: Path) -> Path:
    """Copy what git has, or would have, of the checkout; what is installed in it is shared."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        with contextlib.suppress(FileNotFoundError):  # deleted, and not yet committed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for name in _INSTALLED:
        (folder / name).symlink_to(Path(sys.prefix) if name == ".venv" else ROOT / name)
    return folder


def write(block: Block, checkout: Path) -> None:
    """Write a file that is not there yet."""
    with (checkout / block.path).open("x") as file:
        file.write(block.text)


def change(block: Block, checkout: Path) -> None:
    """Put the lines with a plus, and those without a sign, where the others are; these must be there once."""
    file = checkout / block.path
    lines, content = block.text.splitlines(keepends=True), file.read_text()
    before, after = ("".join(line[1:] for line in lines if line[0] != sign) for sign in "+-")
    assert content.count(before) == 1, f"{block.path} has this {content.count(before)} times:\n{before}"
    file.write_text(content.replace(before, after))


def surroundings(checkout: Path, tools: Path) -> dict[str, str]:
    """Return the environment of a reader's shell: the copy's packages go before those that are installed."""
    tools.mkdir()
    uvx = tools / "uvx"
    uvx.write_text(_UVX.format(python=sys.executable))
    uvx.chmod(0o755)
    ours = ("AWS_", "PYTEST_", "PYTHON", "SLUICE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    sources = os.pathsep.join(str(source) for source in checkout.glob("packages/*/src"))
    return {**kept, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": sources}


class Terminal:
    """A shell that stays open: what one block has set, the next one finds."""

    def __init__(self, shell: subprocess.Popen[str], folder: Path) -> None:
        self._shell = shell
        self._script = folder / "typed.sh"

    def type(self, commands: str) -> str:
        """Type commands and return what they print; one that fails ends the shell, and the test."""
        assert self._shell.stdin and self._shell.stdout  # noqa: PT018 - both are pipes
        self._script.write_text(commands)
        self._shell.stdin.write(f". {self._script} < /dev/null\necho '{_END.strip()}'\n")
        self._shell.stdin.flush()
        said = ""
        for line in self._shell.stdout:
            said += line
            if line.endswith(_END):  # on a line of its own, or behind what ended without one
                return said.removesuffix(_END)
        raise AssertionError(f"failed:\n{commands}\n{said}")


@contextlib.contextmanager
def terminal(checkout: Path, environment: Mapping[str, str], folder: Path) -> Iterator[Terminal]:
    """Open a terminal in the checkout."""
    with _session(["bash", "-eu", "-o", "pipefail"], checkout, environment) as shell:
        yield Terminal(shell, folder)


@contextlib.contextmanager
def running(command: str, checkout: Path, environment: Mapping[str, str], until: str) -> Iterator[str]:
    """Keep a command running in a terminal of its own; yield its line that begins with ``until``."""
    with _session(["bash", "-c", f"exec {command}"], checkout, environment) as process:
        assert process.stdout
        said = ""
        for line in process.stdout:
            if line.startswith(until):
                yield line
                return
            said += line
    raise AssertionError(f"{command} ended:\n{said}")


@contextlib.contextmanager
def _session(
    command: list[str], checkout: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """Run a process whose group gets Ctrl-C at the end, or when it takes too long."""
    with subprocess.Popen(
        command,
        cwd=checkout,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:

        def interrupt() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)

        patience = threading.Timer(_PATIENCE_S, interrupt)
        patience.start()
        try:
            yield process
        finally:
            patience.cancel()
            interrupt()
            process.communicate()
