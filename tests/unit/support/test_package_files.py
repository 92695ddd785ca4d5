"""Packaged files are found where they are installed."""

from __future__ import annotations

import json

import pytest

from reconciler.support.package_files import read_text, resource_path


def test_schemas_and_sql_are_found() -> None:
    assert json.loads(read_text("schemas/manifest.v1.schema.json"))["title"] == "fivrec manifest, version 1"
    assert resource_path("sql/kinds").is_dir()


def test_a_missing_package_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"schemas/none\.json is missing"):
        resource_path("schemas/none.json")
