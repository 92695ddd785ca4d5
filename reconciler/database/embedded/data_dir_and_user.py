"""Where the embedded PostgreSQL keeps its data, and the user that it runs as. PostgreSQL refuses to run as root.

Started by root, it runs as the data's owner, or `nobody` for new data: no user is made, no folder above is changed. If
that user can't reach the folder (below a 0700 /root), the data go to /var/lib/fivrec, and a file `place` in the folder
says where.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from shlex import quote

from reconciler.database.embedded.binaries import Binaries, copied_for_others
from reconciler.database.embedded.pointer import find_data_elsewhere, point_elsewhere
from reconciler.model.errors import FivrecError, MissingSetting
from reconciler.model.records import dataclass
from reconciler.support.files import keep_out_of_git

SHARED = Path("/var/lib/fivrec")


@dataclass(frozen=True, slots=True)
class RunAs:
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Place:
    """`folder` has the locks, the password and the log; `base` the data. `user` is None for the current user."""

    folder: Path
    base: Path
    user: RunAs | None

    @property
    def data(self) -> Path:
        return self.base / "data"

    @property
    def major(self) -> int | None:
        """The major version of existing data, or None if there are none."""
        try:
            return int((self.data / "PG_VERSION").read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unusable(self.data, error) from error
        except ValueError as error:
            raise MissingSetting(
                f"{self.data / 'PG_VERSION'} holds no version of PostgreSQL: the data is damaged",
                hint=f"bring {self.base} back from a backup, or remove it to start with an empty one",
                code="embedded_folder",
            ) from error


def find_data_dir(folder: Path) -> Place:
    """Make the folder if it is missing. Raises MissingSetting if it can't be used, or if its data are elsewhere and
    can't be reached: no empty data are made in their place."""
    folder = Path(os.path.abspath(folder))  # noqa: PTH100  resolve() would follow links that may change
    if "\n" in str(folder):  # PostgreSQL's own postmaster.pid has the path in one line
        raise MissingSetting(
            f"the embedded PostgreSQL's folder {folder} can't be used: there is a line break in its path",
            hint="rename the folder, or use a PostgreSQL server of your own",
            code="embedded_folder",
        )
    root = os.geteuid() == 0
    try:
        folder.mkdir(mode=0o755 if root else 0o700, parents=True, exist_ok=True)
        keep_out_of_git(folder.parent)
        base = find_data_elsewhere(folder)
        if not root:
            return Place(folder, base or folder, None)
        return _place_for_root(folder, base or folder)
    except OSError as error:
        raise unusable(folder, error) from error


def _place_for_root(folder: Path, base: Path) -> Place:
    if (base / "data").exists():
        found = (base / "data").stat()
        if found.st_uid == 0:
            raise MissingSetting(
                f"the data in {base} belong to root, and PostgreSQL does not run as root",
                hint=f"chown -R nobody {quote(str(base / 'data'))}",
                code="embedded_folder",
            )
        return Place(folder, base, RunAs(found.st_uid, found.st_gid))
    nobody = pwd.getpwnam("nobody")
    user = RunAs(nobody.pw_uid, nobody.pw_gid)
    if base == folder and not can_reach(folder, user):
        base = point_elsewhere(folder, SHARED)
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    return Place(folder, base, user)


def binaries_for(place: Place, binaries: Binaries) -> Binaries:
    """Returns the programs, or a copy of them if the user of the data can't reach them."""
    if place.user is None or can_reach(binaries.folder, place.user):
        return binaries
    try:
        SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
        return copied_for_others(binaries, SHARED)
    except OSError as error:
        raise unusable(SHARED, error) from error


def can_reach(folder: Path, user: RunAs) -> bool:
    """Judges by the mode bits of the folder and of all folders above it, following links."""
    real = folder.resolve()
    return all(_may_enter(path, user) for path in (real, *real.parents))


def _may_enter(path: Path, user: RunAs) -> bool:
    found = path.stat()
    if found.st_uid == user.uid:
        return bool(found.st_mode & 0o100)
    return bool(found.st_mode & (0o010 if found.st_gid == user.gid else 0o001))


def unusable(path: Path, error: Exception) -> FivrecError:
    reason = getattr(error, "strerror", None) or type(error).__name__
    return MissingSetting(
        f"the embedded PostgreSQL's folder {path} can't be used: {reason}",
        hint="give a folder that this user owns, as embedded:PATH",
        code="embedded_folder",
    )
