"""cli/pull: writes all files or none; what --resource selects."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.cli.pull import _chosen, _write
from reconciler.manifest.editing import ChangedFile
from reconciler.model.errors import FivrecError
from reconciler.model.types import Key
from reconciler.planning.pull import Edit, Left
from reconciler.planning.report import InstanceReport


def test_if_one_file_cannot_be_written_none_is(tmp_path: Path) -> None:
    """The second file's name is so long that no draft can be named after it."""
    good, bad = tmp_path / "a.yaml", tmp_path / f"{'b' * 245}.yaml"
    for path in (good, bad):
        path.write_bytes(b"before")
    with pytest.raises(FivrecError) as caught:
        _write([ChangedFile(str(path), b"before", b"after") for path in (good, bad)])
    assert str(caught.value) == f"{bad} cannot be written: file name too long; nothing was written"
    assert [path.read_bytes() for path in (good, bad)] == [b"before", b"before"]


def test_a_resource_is_chosen_in_either_spelling() -> None:
    cafe, admin = Key("queue", "cafe\u0301"), Key("admin", "Admin@Example.com")
    edits = tuple(Edit(key, "name", ("x",), "set") for key in (cafe, admin, Key("queue", "Sales")))
    left = (Left(admin, "password", "secret"), Left(Key("queue", "Sales"), "*", "gone"))
    report = InstanceReport("a", "development", "changed", 1, drift=(edits, left))
    asked = frozenset({Key("queue", "caf\u00e9"), Key("admin", "admin@example.com")})
    assert _chosen(report, asked) == (edits[:2], left[:1])
