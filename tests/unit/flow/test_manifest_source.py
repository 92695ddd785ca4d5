"""Manifests under a watch: what is broken stays as it was, what is gone is gone, the rest is taken up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from reconciler.adapters.manifests import Manifest, load_manifests
from reconciler.adapters.watching import look
from reconciler.errors import ManifestError
from reconciler.flow.manifest_source import ManifestSource

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
    paths = (str(tmp_path),)
    return ManifestSource(paths, load, load(paths), seen=look(paths))


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


def test_what_is_gone_is_gone_down_to_nothing_at_all(source: ManifestSource, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").unlink()
    assert shown(source.reload()) == [("b", "Nome")]
    (tmp_path / "b.yaml").unlink()
    assert (source.reload(), source.trouble) == ((), None)
    tmp_path.rmdir()
    assert (source.reload(), source.trouble) == ((), None)
