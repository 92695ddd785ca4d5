"""Manifests under a watch: a broken one stays as it was, a removed one is dropped, all others are updated."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from reconciler.manifest.loader import Manifest, load_manifests
from reconciler.manifest.selection import select
from reconciler.model.errors import ManifestError, UsageError
from reconciler.watch.files import name_directory, scan_files, watch_files
from reconciler.watch.manifests import ManifestSource
from tests.support.company import git
from tests.unit.watch.test_cycle import quiet_run

TEXT = """\
version: 1
instance: {name}
database: {{url: {{env: URL_{name}}}}}
environment: production
config: {{connect_api_url: "https://connect.fiv-app.com", instance_key: {{env: KEY}}, company_name: {company}}}
"""


def write(folder: Path, name: str, company: str = "Nome", file: str = "") -> Path:
    path = folder / (file or f"{name}.yaml")
    path.write_text(TEXT.format(name=name, company=company))
    return path


def load(paths: Sequence[str]) -> tuple[Manifest, ...]:
    return load_manifests(paths, environ={})


@pytest.fixture
def source(tmp_path: Path) -> ManifestSource:
    for name in ("a", "b"):
        write(tmp_path, name)
    return source_of(tmp_path)


def source_of(*paths: Path) -> ManifestSource:
    words = tuple(map(str, paths))
    return ManifestSource(words, load, load(words), seen=scan_files(words))


async def test_the_commit_is_that_of_the_files_as_read(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main", ".")
    write(tmp_path, "a")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "One")
    source = source_of(tmp_path)
    write(tmp_path, "a", "Outro")
    assert await source.take_up(None)
    assert source.commit == f"{git(tmp_path, 'rev-parse', 'HEAD')}-dirty"
    write(tmp_path, "b")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "Two")
    assert await source.take_up(None)
    assert source.commit == git(tmp_path, "rev-parse", "HEAD")


def deny(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Deny listing the folder: root would ignore the permissions of a real one."""
    listed = os.scandir

    def scandir(path: str) -> Any:
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, "denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)


def said(source: ManifestSource) -> list[tuple[str, str]]:
    assert isinstance(source.trouble, ManifestError)
    return [(problem.path, problem.message) for problem in source.trouble.problems]


def shown(manifests: Sequence[Manifest]) -> list[tuple[str, str]]:
    return [(one.instance, one.document["config"]["company_name"]) for one in manifests]


def test_it_changes_when_a_file_does_and_not_otherwise(source: ManifestSource, tmp_path: Path) -> None:
    assert source.changed() is False
    (tmp_path / "notes.txt").write_text("nothing to it")
    assert source.changed() is False
    write(tmp_path, "a", "Outro")
    assert [source.changed(), source.changed()] == [True, False]
    (tmp_path / "clients.csv").write_text("instance\nc\n")
    assert source.changed() is True


def test_a_broken_file_keeps_its_last_good_manifest(source: ManifestSource, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("version: 1\ninstance: [")
    write(tmp_path, "b", "Outro")
    write(tmp_path, "c")
    assert sorted(shown(source.reload())) == [("a", "Nome"), ("b", "Outro"), ("c", "Nome")]
    assert isinstance(source.trouble, ManifestError)
    write(tmp_path, "a", "Novo")
    assert shown(source.reload()) == [("a", "Novo"), ("b", "Outro"), ("c", "Nome")]
    assert source.trouble is None


def test_an_instance_declared_twice_holds_back_itself_alone(source: ManifestSource, tmp_path: Path) -> None:
    write(tmp_path, "a", "Duas", file="z.yaml")
    write(tmp_path, "b", "Outro")
    assert sorted(shown(source.reload())) == [("a", "Nome"), ("b", "Outro")]
    assert isinstance(source.trouble, ManifestError)


def test_two_instances_on_one_database_hold_back_the_new_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path, name)
    text = (tmp_path / "a.yaml").read_text().replace("{env: URL_a}", '"postgres://h/one"')
    (tmp_path / "a.yaml").write_text(text)
    source = source_of(tmp_path)
    write(tmp_path, "b", "Outro")
    (tmp_path / "c.yaml").write_text(text.replace("instance: a", "instance: c"))
    assert sorted(shown(source.reload())) == [("a", "Nome"), ("b", "Outro")]


FLEET = """\
version: 1
defaults:
  database: {{url: "postgres://h/{{{{ instance }}}}"}}
  environment: production
  config:
    connect_api_url: "https://connect.fiv-app.com"
    instance_key: {{env: KEY}}
    company_name: "{{{{ company }}}}"
instances: {{csv: {table}}}
"""


@pytest.mark.parametrize("table", ["clients.csv", "data/clients.csv", ".clients.txt"])
def test_a_table_is_watched_wherever_it_lies(tmp_path: Path, table: str) -> None:
    """If the manifest itself is named, only `*.csv` files beside it are watched otherwise."""
    (tmp_path / "data").mkdir()
    (tmp_path / "fleet.yaml").write_text(FLEET.format(table=table))
    (tmp_path / table).write_text("instance,company\na,Nome\n")
    source = source_of(tmp_path / "fleet.yaml")
    source.changed()
    assert source.changed() is False
    (tmp_path / table).write_text("instance,company\na,Outro\n")
    assert (source.changed(), shown(source.reload())) == (True, [("a", "Outro")])
    (tmp_path / table).unlink()
    assert (source.changed(), shown(source.reload())) == (True, [("a", "Outro")])
    assert source.changed() is False
    (tmp_path / table).write_text("instance,company\na,Novo\n")
    assert (source.changed(), shown(source.reload())) == (True, [("a", "Novo")])


def test_a_broken_row_holds_back_its_own_file(source: ManifestSource, tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(FLEET.format(table="clients.csv"))
    (tmp_path / "clients.csv").write_text("instance,company\nc,Nome\n")
    assert len(source.reload()) == 3
    (tmp_path / "clients.csv").write_text("instance,company\nc,Outro\nd d,Nome\ne,f,g,h\n")
    write(tmp_path, "a", "Outro")
    assert sorted(shown(source.reload())) == [("a", "Outro"), ("b", "Nome"), ("c", "Nome")]


def test_what_reading_could_not_finish_is_read_again(source: ManifestSource, tmp_path: Path) -> None:
    def broken(_: Sequence[str]) -> tuple[Manifest, ...]:
        raise RecursionError

    async def looks() -> AsyncIterator[None]:
        yield

    async def follow() -> list[tuple[str, str]]:
        return [one async for manifests in source.changes(looks(), quiet_run().log) for one in shown(manifests)]

    write(tmp_path, "a", "Outro")
    source.load = broken
    with pytest.raises(RecursionError):
        asyncio.run(follow())
    source.load = load
    assert asyncio.run(follow()) == [("a", "Outro"), ("b", "Nome")]


async def test_a_name_that_is_not_utf_8_is_only_a_name(source: ManifestSource, tmp_path: Path) -> None:
    looks = watch_files([str(tmp_path)])
    async with asyncio.timeout(30):
        first = asyncio.ensure_future(anext(looks))
        await asyncio.sleep(0.2)
        os.close(os.open(os.fsencode(tmp_path) + b"/caf\xe9.txt", os.O_CREAT | os.O_WRONLY))
        await first
        await anext(looks)
    await looks.aclose()
    (tmp_path / os.fsdecode(b"caf\xe9.yaml")).write_text(TEXT.format(name="c", company="Nome"))
    assert (source.changed(), sorted(shown(source.reload()))) == (True, [("a", "Nome"), ("b", "Nome"), ("c", "Nome")])


def test_a_file_that_is_gone_from_a_folder_is_no_longer_declared(source: ManifestSource, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").unlink()
    assert (shown(source.reload()), source.trouble) == ([("b", "Nome")], None)


def test_an_emptied_folder_keeps_its_manifests_until_they_return(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for name in ("a", "b"):
        write(folder, name)
    source = source_of(folder)
    folder.rename(tmp_path / "away")
    assert source.changed() is True
    assert (shown(source.reload()), said(source)) == (
        [("a", "Nome"), ("b", "Nome")],
        [(str(folder), "cannot be read: no such file or directory")],
    )
    folder.mkdir()
    assert (shown(source.reload()), said(source)) == (
        [("a", "Nome"), ("b", "Nome")],
        [(str(folder), "the folder holds no manifests")],
    )
    write(folder, "b", "Outro")
    assert source.changed() is True
    assert (shown(source.reload()), source.trouble) == ([("b", "Outro")], None)


def test_one_path_that_is_gone_does_not_hold_up_another(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    inside, single = write(tmp_path / "m", "a"), write(tmp_path, "b")
    source = source_of(inside.parent, single)
    single.unlink()
    write(inside.parent, "a", "Outro")
    write(inside.parent, "c")
    assert shown(source.reload()) == [("a", "Outro"), ("c", "Nome"), ("b", "Nome")]
    assert said(source) == [(str(single), "cannot be read: no such file or directory")]


def test_an_unreadable_subfolder_keeps_its_manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "below"
    below.mkdir()
    write(tmp_path, "a")
    write(below, "b")
    source = source_of(tmp_path)
    deny(monkeypatch, below)
    write(tmp_path, "a", "Outro")
    assert source.changed() is True
    assert shown(source.reload()) == [("a", "Outro"), ("b", "Nome")]
    assert said(source) == [(str(below), "cannot be read: permission denied")]


def test_a_dangling_link_keeps_the_last_good_manifest(source: ManifestSource, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").unlink()
    (tmp_path / "a.yaml").symlink_to(tmp_path / "nowhere")
    assert source.changed() is True
    assert shown(source.reload()) == [("b", "Nome"), ("a", "Nome")]
    assert said(source) == [(str(tmp_path / "a.yaml"), "cannot be read: no such file or directory")]
    (tmp_path / "c.yaml").symlink_to(tmp_path / "nowhere")
    assert source.changed() is True
    source.reload()
    (tmp_path / "c.yaml").unlink()
    assert source.changed() is True


def test_variables_that_no_longer_fit_keep_all_as_it_was(source: ManifestSource, tmp_path: Path) -> None:
    def broken(_: Sequence[str]) -> tuple[Manifest, ...]:
        raise UsageError('-e "a b" is not a valid variable name')

    source.load = broken
    assert shown(source.reload()) == [("a", "Nome"), ("b", "Nome")]
    assert isinstance(source.trouble, UsageError)


def test_a_limit_that_no_longer_matches_leaves_no_instance(source: ManifestSource) -> None:
    source.load = lambda paths: select(load(paths), ["z*"])
    assert (source.reload(), source.trouble) == ((), None)


def test_a_release_that_replaces_the_working_directory_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The working directory's name is a symbolic link, and its old target is removed."""
    for release, company in (("r1", "Nome"), ("r2", "Outro")):
        (tmp_path / release / "m").mkdir(parents=True)
        write(tmp_path / release / "m", "a", company)
    current = tmp_path / "current"
    current.symlink_to("r1")
    monkeypatch.chdir(current)
    monkeypatch.setenv("PWD", str(current))
    source = ManifestSource(("m",), load, load(["m"]), seen=scan_files(["m"]), directory=name_directory())
    shutil.rmtree(tmp_path / "r1")
    current.unlink()
    assert (source.changed(), shown(source.reload())) == (True, [("a", "Nome")])
    assert source.trouble is not None
    assert source.trouble.message == f"the working directory {current} is gone"
    current.symlink_to("r2")
    assert (source.changed(), shown(source.reload())) == (True, [("a", "Outro")])
    assert source.trouble is None
