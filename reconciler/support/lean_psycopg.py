"""Makes importing psycopg faster, without what only its version needs: a twentieth of a no-op apply.

psycopg asks importlib.metadata for its version, which imports email, zipfile and csv; the name of the installed folder
says the same. It imports ctypes.util, and with it shutil and tempfile, to look for a libpq, which psycopg-binary brings
along: so that module is imported only when something of it is used. This module does not import psycopg itself;
`reconciler.database` imports it before all that do.
"""

from __future__ import annotations

import ctypes
import os
import sys
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any


class _Late(ModuleType):
    """A placeholder in sys.modules until something of the module is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def _put_version(package: str) -> None:
    """Give `package` its module `version`. If no folder says it (not installed by pip), the package's own stays."""
    spec = PathFinder.find_spec(package)
    if spec is None or spec.origin is None:
        return
    start, end = f"{package}-", ".dist-info"
    with os.scandir(Path(spec.origin).parent.parent) as entries:
        found = [one.name for one in entries if one.name.startswith(start) and one.name.endswith(end)]
    if len(found) == 1:
        module = ModuleType(f"{package}.version")
        module.__dict__["__version__"] = found[0][len(start) : -len(end)]
        sys.modules[module.__name__] = module


if "psycopg" not in sys.modules:
    _put_version("psycopg")
    _put_version("psycopg_binary")
    if "ctypes.util" not in sys.modules:
        late = _Late("ctypes.util")
        sys.modules[late.__name__] = late
        vars(ctypes)["util"] = late
