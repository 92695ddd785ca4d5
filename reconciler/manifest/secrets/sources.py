"""Fetch what one reference names: a variable, a file, a command's output, a secret from Vault or from a package.

Messages never repeat its text.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from reconciler.manifest.secrets.plugins import fetch as plugin_text
from reconciler.model.errors import SourceError
from reconciler.model.records import dataclass
from reconciler.support.files import ConfinedFileError, read_confined

if TYPE_CHECKING:
    from reconciler.manifest.secrets.vault import Vault


COMMAND_S: Final = 30.0
GLANCE_S: Final = 0.05


def run_command(words: Sequence[str], limit: int, deadline_s: float = COMMAND_S) -> bytes:
    """Run the command. Returns its standard output; standard error is dropped, because it may repeat a secret. No shell
    is used."""
    program = words[0][:100]
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except (OSError, ValueError) as exc:
        raise SourceError(f"the command {program} cannot be run", "check its name and permissions") from exc
    with process:
        try:
            output = _read(process, limit, time.monotonic() + deadline_s)
        finally:
            _kill(process)  # and what it left running
    if output is None:
        raise SourceError(f"the command {program} took longer than {deadline_s:g} s", "run it by hand")
    if len(output) > limit:
        raise SourceError(f"the command {program} prints more than {limit:,} bytes", "is it the right one?")
    if process.returncode != 0:
        raise SourceError(f"the command {program} ended with code {process.returncode}", "run it by hand to see why")
    return output


def _read(process: subprocess.Popen[bytes], limit: int, deadline: float) -> bytes | None:
    """What the command printed until it ended, even if another process still holds its output open; None if time ran
    out first. Stops reading after `limit`."""
    assert process.stdout is not None  # noqa: S101  asked for above
    output, whole = bytearray(), False
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while len(output) <= limit and time.monotonic() < deadline:
            ended = process.poll() is not None
            if not whole and selector.select(0 if ended else GLANCE_S):
                chunk = os.read(process.stdout.fileno(), MAX_BYTES)
                whole = not chunk
                output += chunk
            elif ended:
                return bytes(output)
            elif whole:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
    return bytes(output) if len(output) > limit else None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the command and everything that it started: it has a session of its own."""
    with suppress(ProcessLookupError, PermissionError):  # macOS raises the latter for zombies
        os.killpg(process.pid, signal.SIGKILL)


MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Sources:
    """Where references may look. Commands and paths of Vault are fetched once per run, whatever the number of
    instances."""

    environ: Mapping[str, str]
    secrets_dir: Path | None
    allow_command: tuple[str, ...]
    command_s: float = COMMAND_S
    _outputs: dict[tuple[str, ...], str] = field(default_factory=dict)
    _vaults: list[Vault] = field(default_factory=list)

    def fetch(self, reference: Mapping[str, Any], folder: Path) -> str | None:
        """Returns the text; None if there is none: an unset or empty variable, a missing or empty file."""
        match reference:
            case {"env": str(name)}:
                return self.environ.get(name) or None
            case {"file": str(name)}:
                return self._read_file(name, folder)
            case {"command": list(words)}:
                return self._run(words)
            case {"vault": str(path)}:
                return self._vault().fetch(path)
            case {"plugin": [str(name), str(value)]}:
                return plugin_text(name, value, folder)
            case _:
                return None

    def _read_file(self, name: str, folder: Path) -> str | None:
        folders = (folder,) if self.secrets_dir is None else (folder, self.secrets_dir)
        try:
            content = read_confined(name, folders, MAX_BYTES)
        except ConfinedFileError as exc:
            if exc.missing and self.secrets_dir is not None and (self.secrets_dir / name).is_file():
                raise SourceError(
                    f"the file {name} is not in the manifest's folder, but in --secrets-dir",
                    "name a file of --secrets-dir by its absolute path",
                ) from exc
            if exc.missing:
                return None
            raise SourceError(f"the file {exc.reason}", exc.hint, misplaced=True) from exc
        return _text(content, "the file")

    def close(self) -> None:
        """Close what was opened for the run."""
        for vault in self._vaults:
            vault.close()

    def _vault(self) -> Vault:
        if not self._vaults:
            from reconciler.manifest.secrets.vault import open_vault

            self._vaults.append(open_vault(self.environ))
        return self._vaults[0]

    def _run(self, words: Sequence[str]) -> str | None:
        if words[0] not in self.allow_command:
            program = words[0][:100]
            raise SourceError(f"the command {program} may not be run", f"give --allow-command {program}")
        key = tuple(words)
        if key not in self._outputs:
            self._outputs[key] = _text(run_command(key, MAX_BYTES, self.command_s), "the command's output") or ""
        return self._outputs[key] or None


def describe(reference: Mapping[str, Any]) -> str:
    """Why a reference has no value: the name of a variable, file or program, never its content."""
    return _words(reference)[1]


def name_source(reference: Mapping[str, Any]) -> str:
    """`the file env.txt`: what is asked, never what it says."""
    return _words(reference)[0]


def _words(reference: Mapping[str, Any]) -> tuple[str, str]:
    """What a reference asks, and what is wrong if that has no value."""
    match reference:
        case {"env": name}:
            return f"the variable {name}", f"the variable {name} is not set"
        case {"file": name}:
            return f"the file {name}", f"the file {name} is not there, or empty"
        case {"command": [program, *_]}:
            return f"the command {program}", f"the command {program} prints nothing"
        case {"vault": path}:
            return f"{path} in Vault", f"{path} is not in Vault, or empty"
        case {"plugin": [name, value]}:
            return f"{value} of {name}", f"{name} has nothing for {value}"
        case _:
            return "the reference", "there is no value"


def _text(content: bytes, what: str) -> str | None:
    try:
        text = content.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError:
        # Not chained: the codec's error contains the bytes.
        raise SourceError(f"{what} is not UTF-8", "is it the right one?") from None
    for end in ("\r\n", "\n"):
        if text.endswith(end):
            return text.removesuffix(end) or None
    return text or None
