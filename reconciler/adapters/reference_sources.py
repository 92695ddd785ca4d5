"""Fetch what one reference names: a variable, a file or a command's output. Its text is never repeated in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from reconciler.adapters.source_error import SourceError
from reconciler.model.records import dataclass
from reconciler.support.files import ConfinedFileError, read_confined

MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Sources:
    """Where references may look. Files and commands are asked once a run, whatever the number of instances."""

    environ: Mapping[str, str]
    secrets_dir: Path | None
    allow_commands: bool
    _outputs: dict[tuple[str, ...], str] = field(default_factory=dict)

    def fetch(self, reference: Mapping[str, Any], folder: Path) -> str | None:
        """The text, None where there is none: an unset or empty variable, a file that is not there or empty."""
        match reference:
            case {"env": str(name)}:
                return self.environ.get(name) or None
            case {"file": str(name)}:
                return self._read_file(name, folder)
            case {"command": list(words)}:
                return self._run(words)
            case _:
                return None

    def _read_file(self, name: str, folder: Path) -> str | None:
        folders = (folder,) if self.secrets_dir is None else (folder, self.secrets_dir)
        try:
            content = read_confined(name, folders, MAX_BYTES)
        except ConfinedFileError as exc:
            if exc.missing:
                return None
            raise SourceError(f"the file {exc.reason}", exc.hint, misplaced=True) from exc
        return _text(content, "the file")

    def _run(self, words: Sequence[str]) -> str | None:
        if not self.allow_commands:
            raise SourceError("a command is to run, which is not allowed", "give --allow-commands")
        key = tuple(words)
        if key not in self._outputs:
            from reconciler.adapters.reference_commands import output_of

            self._outputs[key] = _text(output_of(key, MAX_BYTES), "the command's output") or ""
        return self._outputs[key] or None


def describe(reference: Mapping[str, Any]) -> str:
    """What a reference names, for messages: a variable's or file's or program's name, never what is in it."""
    match reference:
        case {"env": name}:
            return f"the variable {name} is not set"
        case {"file": name}:
            return f"the file {name} is not there, or empty"
        case {"command": [program, *_]}:
            return f"the command {program} prints nothing"
        case _:
            return "there is no value"


def _text(content: bytes, what: str) -> str | None:
    try:
        text = content.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError:
        # Not chained: the codec's error holds the bytes.
        raise SourceError(f"{what} is not UTF-8", "is it the right one?") from None
    for end in ("\r\n", "\n"):
        if text.endswith(end):
            return text.removesuffix(end) or None
    return text or None
