"""The errors fivrec foresees. Each knows its exit code (docs/reference/exit-codes.md) and a stable code for reports.

The message says what and where; the hint says what to do. Neither may ever hold a secret.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from typing import Self

from reconciler.model.records import dataclass


class FivrecError(Exception):
    """A foreseen error: shown as a message and a hint, never as a traceback."""

    exit_code = 1
    code = "failed"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code


class UsageError(FivrecError):
    """The command line is wrong."""

    exit_code = 64
    code = "usage"


@dataclass(frozen=True, slots=True)
class ManifestProblem:
    """One thing that is wrong in a manifest. `line` and `column` count from 1; 0 if there is no place. `row` is the
    line of a fleet's CSV file, like `clients.csv:22`; `value` is the wrong value as JSON, cut, and never a secret."""

    path: str
    line: int
    column: int
    message: str
    hint: str = ""
    instance: str = ""
    row: str = ""
    value: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.words()}"

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}:{self.column}" if self.line else self.path

    def words(self) -> str:
        """Returns everything but the place."""
        row = f"({self.row})" if self.row and not self._is_at_its_row() else ""
        who = " ".join(filter(None, (self.instance, row)))
        said = f"{who}: {self.message}" if who else self.message
        return said + (f": {self.value}" if self.value else "") + (f" ({self.hint})" if self.hint else "")

    def kind(self) -> tuple[str, int, int, str, str]:
        """Returns what the same problem has in common in several instances."""
        place = (0, 0) if self._is_at_its_row() else (self.line, self.column)
        return (self.path, *place, self.message, self.hint)

    def _is_at_its_row(self) -> bool:
        return self.row == f"{self.path}:{self.line}"


MAX_LISTED = 20


def extra_hint(*names: str) -> str:
    """Returns how to get a missing extra. Names no command: a bare name may install something else from an index."""
    extras = " and ".join(names)
    return (
        f"install fivrec with the extra{'s' if len(names) > 1 else ''} {extras}: fivrec docs recipes/README#installing"
    )


def group_problems(problems: Iterable[ManifestProblem]) -> tuple[tuple[ManifestProblem, ...], ...]:
    """Groups the same problem in several instances, ordered by the first of each group."""
    groups: dict[object, list[ManifestProblem]] = {}
    for number, problem in enumerate(problems):
        shared = problem.instance or problem.row
        groups.setdefault(problem.kind() if shared else number, []).append(problem)
    return tuple(map(tuple, groups.values()))


def merge_problems(group: Sequence[ManifestProblem]) -> ManifestProblem:
    """Returns a group as one problem, which counts and lists the instances, their rows and values."""
    first = group[0]
    if len(group) == 1:
        return first
    listed = [" ".join(filter(None, (one.instance, one.row and f"({one.row})", one.value))) for one in group]
    more = f", and {len(listed) - MAX_LISTED} more" if len(listed) > MAX_LISTED else ""
    what = "rows" if first.row else "instances"
    message = f"{first.message}, in {len(listed)} {what}: {', '.join(listed[:MAX_LISTED])}{more}"
    return ManifestProblem(first.path, first.line, first.column, message, first.hint)


class ManifestError(FivrecError):
    """Manifests are invalid; `problems` holds all problems of all files, sorted by place."""

    exit_code = 65
    code = "manifest_invalid"

    def __init__(self, problems: tuple[ManifestProblem, ...], *, hint: str = "") -> None:
        self.problems = tuple(sorted(problems, key=by_place))
        super().__init__("\n".join(str(merge_problems(group)) for group in group_problems(self.problems)), hint=hint)


def place_of_row(row: str) -> tuple[str, int] | None:
    """Returns the path and line of a row like `clients.csv:22`; None if there is no row."""
    path, _, line = row.rpartition(":")
    return (path, int(line)) if path and line.isdigit() else None


def by_place(problem: ManifestProblem) -> tuple[object, ...]:
    """The order in which problems are shown."""
    row = place_of_row(problem.row) or ("", 0)
    place = problem.path, problem.line, problem.column
    return *place, problem.message, problem.hint, row, problem.instance, problem.value


class MissingSetting(FivrecError):
    """A setting or secret that the run needs is missing or wrong; nothing was written. `places`: where the manifests
    name what is missing."""

    exit_code = 78
    code = "missing_setting"
    places: tuple[ManifestProblem, ...] = ()


class Refused(FivrecError):
    """Refused by a safety guard, or because a saved plan is stale; nothing was written."""

    exit_code = 3
    code = "refused"


class Busy(FivrecError):
    """Another run holds the instance's lock."""

    exit_code = 4
    code = "busy"


class ConnectError(FivrecError):
    """Fi.V Connect could not be reached, or its answer can't be used."""

    code = "connect_unreachable"


class DatabaseError(FivrecError):
    """PostgreSQL could not be reached, or refused something."""

    code = "database_error"


class NotConverged(FivrecError):
    """What apply wrote still differed afterwards, so it was rolled back. `written`: in a resource that it wrote."""

    code = "not_converged"

    def __init__(self, message: str, *, hint: str = "", written: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.written = written


_FILES = "too many files are open", "raise the limit of open files (ulimit -n; LimitNOFILE= in a systemd unit)"
_LACKS = {
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOSPC: ("no space is left on the disk", "make room, then run again"),
    errno.EDQUOT: ("the disk quota is used up", "make room, then run again"),
    errno.ENOMEM: ("no memory is left", "give it more memory, or work on fewer instances at once (--forks)"),
}
"""What is not fivrec's fault, wherever it shows first."""
_CUT_OFF = (
    "a compiled file of Python is cut off",
    "it was written to a full disk perhaps: remove the folders __pycache__ of this Python's packages, then run again",
)

_LOADER = {
    "failed to map segment": errno.ENOMEM,
    "Cannot allocate memory": errno.ENOMEM,
    "Too many open files": errno.EMFILE,
}
"""What the dynamic loader says about a library: it has only words, no errno."""


def find_lack(exc: BaseException) -> tuple[str, str] | None:
    """Returns what was lacking and what to do, or None if it is fivrec's fault."""
    match exc:
        case OSError():
            return _LACKS.get(exc.errno or 0)
        case MemoryError():
            return _LACKS[errno.ENOMEM]
        case ImportError():
            return next((_LACKS[number] for words, number in _LOADER.items() if words in str(exc)), None)
        case EOFError() if "marshal" in str(exc):
            return _CUT_OFF
        case _:
            return None


class Unforeseen(FivrecError):
    """A bug in fivrec: shows its type and place, but not its text, which could hold anything."""

    code = "internal"

    @classmethod
    def of(cls, exc: BaseException) -> Self:
        import traceback

        frames = traceback.extract_tb(exc.__traceback__)
        frame = next((one for one in reversed(frames) if "reconciler" in one.filename), frames[-1] if frames else None)
        place = f" in {frame.name}, line {frame.lineno}" if frame else ""
        lack = find_lack(exc)
        if lack is not None:
            return cls(f"{lack[0]} ({type(exc).__name__}{place})", hint=lack[1])
        hint = "run again with -vv for the traceback, and report it"
        return cls(f"fivrec failed unexpectedly: {type(exc).__name__}{place}", hint=hint)


def as_error(exc: Exception) -> FivrecError:
    """Returns the error itself, or an Unforeseen for any that fivrec does not know."""
    return exc if isinstance(exc, FivrecError) else Unforeseen.of(exc)


class Interrupted(FivrecError):
    """Stopped by a signal, after rolling back; the exit code is 128 + the signal's number."""

    code = "interrupted"

    def __init__(self, signal: int) -> None:
        super().__init__("stopped by a signal; what was not committed was rolled back")
        self.exit_code = 128 + signal


class SourceError(Exception):
    """A source that exists but is wrong, or is not allowed. `misplaced`: the manifest itself is wrong (65), not its
    surroundings (78)."""

    def __init__(self, message: str, hint: str, *, misplaced: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.misplaced = misplaced
