"""Files that fivrec creates: those in `.fivrec` must not be committed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.database.embedded.data_dir_and_user import find_data_dir
from reconciler.manifest.secrets.generated_password import password_path, write_password
from reconciler.model.errors import Busy
from reconciler.model.secret import Secret
from reconciler.support.crypto.key_files import text_beside
from tests.support.company import git

MAKERS: dict[str, Callable[[Path], object]] = {
    "a key": lambda folder: text_beside(folder / "encryption.key", "FIVREC_ENCRYPTION_KEY"),
    "a password": lambda folder: write_password(password_path(folder, "a"), Secret("a-password")),
    "a database": lambda folder: find_data_dir(folder / "postgres"),
}


@pytest.mark.parametrize("what", MAKERS)
def test_git_adds_nothing_of_the_work_folder(what: str, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    MAKERS[what](tmp_path / ".fivrec")
    (tmp_path / ".fivrec/more").write_text("")
    git(tmp_path, "add", "-A")
    assert git(tmp_path, "ls-files") == ""


def test_a_gitignore_of_ones_own_stays_and_no_other_folder_gets_one(tmp_path: Path) -> None:
    (tmp_path / ".fivrec").mkdir()
    (tmp_path / ".fivrec/.gitignore").write_text("!audit.json\n")
    MAKERS["a key"](tmp_path / ".fivrec")
    MAKERS["a key"](tmp_path / "data")
    assert (tmp_path / ".fivrec/.gitignore").read_text() == "!audit.json\n"
    assert not (tmp_path / "data/.gitignore").exists()


def test_a_second_attempt_finds_the_password_that_the_first_one_kept(tmp_path: Path) -> None:
    path = password_path(tmp_path / ".fivrec", "a")
    write_password(path, Secret("a-password"))
    write_password(path, Secret("a-password"))
    with pytest.raises(Busy):
        write_password(path, Secret("another"))
