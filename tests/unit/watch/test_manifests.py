"""Manifests under a watch: what is broken stays as it was, what is gone is gone, the rest is taken up."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from reconciler.manifest.loader import Manifest, load_manifests
from reconciler.manifest.selection import select
from reconciler.model.errors import ManifestError, UsageError
from reconciler.watch.files import name_directory, scan_files
from reconciler.watch.manifests import ManifestSource

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


def deny(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No right to list it; that of a real folder would mean nothing to root."""
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


def test_a_broken_file_keeps_its_last_good_manifest_and_the_others_are_taken_up(
    source: ManifestSource, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text("version: 1\ninstance: [")
    write(tmp_path, "b", "Outro")
    write(tmp_path, "c")
    assert sorted(shown(source.reload())) == [("a", "Nome"), ("b", "Outro"), ("c", "Nome")]
    assert isinstance(source.trouble, ManifestError)
    write(tmp_path, "a", "Novo")
    assert shown(source.reload()) == [("a", "Novo"), ("b", "Outro"), ("c", "Nome")]
    assert source.trouble is None


def test_an_instance_declared_twice_changes_nothing(source: ManifestSource, tmp_path: Path) -> None:
    write(tmp_path, "a", "Duas", file="z.yaml")
    assert sorted(shown(source.reload())) == [("a", "Nome"), ("b", "Nome")]
    assert isinstance(source.trouble, ManifestError)


def test_a_file_that_is_gone_from_a_folder_is_no_longer_declared(source: ManifestSource, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").unlink()
    assert (shown(source.reload()), source.trouble) == ([("b", "Nome")], None)


def test_a_folder_that_lost_all_its_manifests_keeps_them_until_they_are_back(tmp_path: Path) -> None:
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


def test_a_folder_below_that_can_no_longer_be_read_keeps_its_manifests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_manifest_that_became_a_link_to_nowhere_keeps_its_last_good_one(
    source: ManifestSource, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").unlink()
    (tmp_path / "a.yaml").symlink_to(tmp_path / "nowhere")
    assert source.changed() is True
    assert shown(source.reload()) == [("b", "Nome"), ("a", "Nome")]
    assert said(source) == [(str(tmp_path / "a.yaml"), "cannot be read: no such file or directory")]
    (tmp_path / "c.yaml").symlink_to(tmp_path / "nowhere")
    assert source.changed() is True


def test_variables_that_no_longer_fit_keep_all_as_it_was(source: ManifestSource, tmp_path: Path) -> None:
    def broken(_: Sequence[str]) -> tuple[Manifest, ...]:
        raise UsageError('-e "a b" is no name for a variable')

    source.load = broken
    assert shown(source.reload()) == [("a", "Nome"), ("b", "Nome")]
    assert isinstance(source.trouble, UsageError)


def test_a_limit_that_fits_none_any_more_leaves_none(source: ManifestSource) -> None:
    source.load = lambda paths: select(load(paths), ["z*"])
    assert (source.reload(), source.trouble) == ((), None)


def test_a_release_that_replaces_the_working_directory_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link is the working directory's name; what it led to is removed."""
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
