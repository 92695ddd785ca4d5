"""Files that fivrec creates and replaces; those in `.fivrec` must not be committed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.database.embedded.data_dir_and_user import find_data_dir
from reconciler.manifest.secrets.generated_password import password_path, write_password
from reconciler.model.errors import Busy, FivrecError
from reconciler.model.secret import Secret
from reconciler.support.crypto.key_files import text_beside
from reconciler.support.files import replace_bytes, replace_text, write_private
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


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        replace_text(str(pipe), "the plan")
        assert (pipe.is_fifo(), os.read(reader, 100)) == (True, b"the plan")
    finally:
        os.close(reader)


def test_a_file_that_is_replaced_keeps_its_mode_and_its_links(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("before")
    target.chmod(0o640)
    link.symlink_to(target)
    replace_text(str(link), "after")
    assert (target.read_text(), stat.S_IMODE(target.stat().st_mode), link.is_symlink()) == ("after", 0o640, True)
    with pytest.raises(FileExistsError):
        replace_text(str(target), "again", exclusive=True)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["link", "target"]
    assert target.read_text() == "after"


def test_a_private_file_is_its_owners_alone_and_replaces_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_private(path, "one", exclusive=True)
    with pytest.raises(FileExistsError):
        write_private(path, "two", exclusive=True)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("one", 0o600)
    path.chmod(0o644)
    write_private(path, "two")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("two", 0o600)


@pytest.mark.parametrize(
    ("number", "hint"),
    [(errno.ENOSPC, "make room, then run again"), (errno.EACCES, "check the folder and its permissions")],
)
def test_what_can_not_be_written_says_what_to_do(
    number: int, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr("reconciler.support.files.os.fsync", refuse)
    with pytest.raises(FivrecError, match=r"plan\.json cannot be written") as refused:
        replace_bytes(str(tmp_path / "plan.json"), b"{}")
    assert refused.value.hint == hint
    assert list(tmp_path.iterdir()) == []
