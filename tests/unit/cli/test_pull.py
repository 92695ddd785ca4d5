"""cli/pull: all files or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.cli.pull import _write
from reconciler.manifest.editing import ChangedFile
from reconciler.model.errors import FivrecError


def test_if_one_file_cannot_be_written_none_is(tmp_path: Path) -> None:
    """A name so long that no draft fits beside it."""
    good, bad = tmp_path / "a.yaml", tmp_path / f"{'b' * 245}.yaml"
    for path in (good, bad):
        path.write_bytes(b"before")
    with pytest.raises(FivrecError) as caught:
        _write([ChangedFile(str(path), b"before", b"after") for path in (good, bad)])
    assert str(caught.value) == f"{bad} cannot be written: file name too long; nothing was written"
    assert [path.read_bytes() for path in (good, bad)] == [b"before", b"before"]
