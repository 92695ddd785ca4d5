"""psycopg without the imports needed only for its version: code that imports them later still can."""

import json
import subprocess
import sys
from ctypes.util import find_library

import pytest

HEAVY = ("importlib.metadata", "email", "zipfile", "shutil", "tempfile")
IMPORTED = f"""
import json, sys
import reconciler.database
import psycopg, psycopg.pq
there = [name for name in {HEAVY!r} if name in sys.modules]
"""


def found_by(code: str, **environment: str) -> dict[str, object]:
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path), **environment},
    )  # fmt: skip
    found: dict[str, object] = json.loads(run.stdout)
    return found


def test_heavy_modules_are_left_out() -> None:
    found = found_by(IMPORTED + "print(json.dumps({'there': there}))")
    assert found == {"there": []}


def test_psycopg_is_not_imported_without_need() -> None:
    code = "import json, sys\nimport reconciler.database.embedded.server\n"
    assert found_by(code + "print(json.dumps({'there': 'psycopg' in sys.modules}))") == {"there": False}


def test_the_version_is_the_installed_one() -> None:
    code = IMPORTED + (
        "import psycopg_binary\n"
        "from importlib.metadata import version\n"
        "print(json.dumps({'said': [psycopg.__version__, psycopg_binary.__version__],\n"
        "                  'installed': [version('psycopg'), version('psycopg-binary')]}))"
    )
    found = found_by(code)
    assert found["said"] == found["installed"]


def test_without_its_folder_the_version_is_psycopgs_own_to_find() -> None:
    code = "import contextlib, os\nos.scandir = lambda *_: contextlib.nullcontext(())\n" + IMPORTED
    found = found_by(code + "print(json.dumps({'version': psycopg.__version__, 'there': there}))")
    assert found["version"]
    assert "importlib.metadata" in found["there"]  # type: ignore[operator]


def test_ctypes_util_is_complete_once_imported() -> None:
    code = IMPORTED + (
        "import ctypes.util\n"
        "print(json.dumps({'found': ctypes.util.find_library('c'), 'attribute': ctypes.util.find_library.__name__}))"
    )
    assert found_by(code) == {"found": find_library("c"), "attribute": "find_library"}


@pytest.mark.skipif(find_library("pq") is None, reason="psycopg without its binary needs a libpq on the machine")
def test_psycopg_in_python_finds_its_libpq() -> None:
    code = IMPORTED + "print(json.dumps({'implementation': psycopg.pq.__impl__}))"
    assert found_by(code, PSYCOPG_IMPL="python") == {"implementation": "python"}
