"""Where an embedded folder's data are: a pointer to nothing, or to another folder's data, starts no empty database."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reconciler.database.embedded.pointer import find_data_elsewhere, point_elsewhere
from reconciler.model.errors import MissingSetting


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose data exist elsewhere."""
    own = tmp_path / "project" / "postgres"
    own.mkdir(parents=True)
    base = point_elsewhere(own, tmp_path / "shared")
    (base / "data").mkdir()
    (base / "data" / "PG_VERSION").write_text("18\n")
    (own / "version").write_text("18.6\n")
    return own


def refused(folder: Path) -> tuple[str, str, str]:
    with pytest.raises(MissingSetting) as caught:
        find_data_elsewhere(folder)
    return caught.value.code, caught.value.message, caught.value.hint


def test_the_pointer_is_followed(folder: Path, tmp_path: Path) -> None:
    base = find_data_elsewhere(folder)
    assert base is not None
    assert base.parent == tmp_path / "shared"
    assert find_data_elsewhere(tmp_path) is None


def test_data_that_are_gone_are_an_error(folder: Path) -> None:
    base = find_data_elsewhere(folder)
    assert base is not None
    shutil.rmtree(base)
    code, message, hint = refused(folder)
    assert (code, message) == (
        "embedded_folder",
        f"{folder / 'place'} says that the data is in {base}, but it can't be read there",
    )
    assert f"remove {folder} to begin with an empty database" in hint


def test_a_first_run_that_was_killed_goes_on(folder: Path) -> None:
    base = find_data_elsewhere(folder)
    assert base is not None
    shutil.rmtree(base)
    (folder / "version").unlink()
    assert find_data_elsewhere(folder) == base


@pytest.mark.parametrize("said", ["", "\n", "somewhere\n", "../postgres\n"])
def test_a_pointer_that_names_no_folder_is_an_error(folder: Path, said: str) -> None:
    (folder / "place").write_text(said)
    code, message, _ = refused(folder)
    assert (code, message) == (
        "embedded_folder",
        f"{folder / 'place'} does not say where the data of the embedded PostgreSQL are",
    )


def test_a_pointer_that_is_lost_makes_no_new_one(folder: Path, tmp_path: Path) -> None:
    base = find_data_elsewhere(folder)
    (folder / "place").unlink()
    (tmp_path / "another").mkdir()
    point_elsewhere(tmp_path / "another", tmp_path / "shared")
    with pytest.raises(MissingSetting) as caught:
        point_elsewhere(folder, tmp_path / "shared")
    assert (caught.value.code, caught.value.message, caught.value.hint, (folder / "place").exists()) == (
        "embedded_folder",
        f"{folder / 'place'}, which says where the data of the embedded PostgreSQL are, is missing",
        f"write {base} into it; if they are lost for good, remove {folder} to begin with an empty database",
        False,
    )


def test_a_copy_is_distinguished_from_its_original(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "postgres"
    shutil.copytree(folder, copy)
    code, message, hint = refused(copy)
    assert code == "embedded_copy"
    assert message.startswith(f"{copy} is a copy of {folder}, and the data in ")
    assert hint == f"remove {copy} to begin with an empty database, or give an embedded:PATH of its own"
    assert find_data_elsewhere(folder) is not None


def test_a_project_that_was_moved_keeps_its_data(folder: Path, tmp_path: Path) -> None:
    base = find_data_elsewhere(folder)
    assert base is not None
    moved = tmp_path / "moved"
    folder.rename(moved)
    assert find_data_elsewhere(moved) == base
    assert (base / "origin").read_text() == f"{moved}\n"


def test_a_link_to_the_project_is_no_copy(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert find_data_elsewhere(tmp_path / "link") == find_data_elsewhere(folder)


def test_two_first_runs_agree_on_one_place(tmp_path: Path) -> None:
    assert point_elsewhere(tmp_path, tmp_path / "shared") == point_elsewhere(tmp_path, tmp_path / "shared")
