"""The errors fivrec foresees. Each knows its exit code (CONTRACT: exit codes) and a stable code for reports.

The message says what and where; the hint says what to do. Neither may ever hold a secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


class FivrecError(Exception):
    """An end that was foreseen: shown as a message and a hint, never as a traceback."""

    exit_code = 1
    code = "failed"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code


class UsageError(FivrecError):
    """The command line does not fit."""

    exit_code = 64
    code = "usage"


@dataclass(frozen=True, slots=True, order=True)
class ManifestProblem:
    """One thing wrong in a manifest. `line` and `column` count from 1; 0 where there is no place."""

    path: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        return f"{place}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class ManifestError(FivrecError):
    """Manifests are invalid; `problems` holds all of them, of all files, sorted by place."""

    exit_code = 65
    code = "manifest_invalid"

    def __init__(self, problems: tuple[ManifestProblem, ...], *, hint: str = "") -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems), hint=hint)


class MissingSetting(FivrecError):
    """A setting or secret that the run needs is missing or does not fit; nothing was written."""

    exit_code = 78
    code = "missing_setting"


class Refused(FivrecError):
    """A safety guard, or a saved plan that no longer fits; nothing was written."""

    exit_code = 3
    code = "refused"


class Busy(FivrecError):
    """Another run holds the instance."""

    exit_code = 4
    code = "busy"


class ConnectError(FivrecError):
    """Fi.V Connect could not be asked, or its answer can't be used."""

    code = "connect_unreachable"


class DatabaseError(FivrecError):
    """PostgreSQL could not be reached, or refused."""

    code = "database_error"


class NotConverged(FivrecError):
    """A difference was left of what apply wrote, so it was rolled back. `written`: of a resource that it wrote."""

    code = "not_converged"

    def __init__(self, message: str, *, hint: str = "", written: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.written = written


class Unforeseen(FivrecError):
    """A fault of fivrec: its type and place. Its text could hold anything, so it is not shown."""

    code = "internal"

    @classmethod
    def of(cls, exc: BaseException) -> Self:
        import traceback

        frames = traceback.extract_tb(exc.__traceback__)
        frame = next((one for one in reversed(frames) if "reconciler" in one.filename), frames[-1] if frames else None)
        place = f" in {frame.name}, line {frame.lineno}" if frame else ""
        hint = "run again with -vv for the traceback, and report it"
        return cls(f"fivrec failed where it should not: {type(exc).__name__}{place}", hint=hint)


class Interrupted(FivrecError):
    """Stopped by a signal after rolling back; exit code 128 + the signal's number."""

    code = "interrupted"

    def __init__(self, signal: int) -> None:
        super().__init__("stopped by a signal; what was not committed was rolled back")
        self.exit_code = 128 + signal
