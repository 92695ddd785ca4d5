"""Loading a second time: only what changed is built again, with the same result as loading from scratch."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from reconciler.manifest.loader import Made, Manifest, load_manifests
from reconciler.manifest.reuse import Reuse
from reconciler.model.errors import ManifestError

FLEET = """\
version: 1
defaults:
  environment: {env: NODE_ENV, default: development}
  labels: {region: "{{ region }}"}
  database: {url: "postgresql://app@db/{{ database }}"}
  config: {connect_api_url: "https://connect.example.com", instance_key: {env: KEY}, company_name: "{{ company }}"}
instances: {csv: clients.csv}
"""
ROWS = [f"client-{number},db_{number},Empresa {number},south" for number in range(5)]
ENVIRON = {"NODE_ENV": "development"}


class Folder:
    """A fleet on disk that is loaded several times."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reuse: Reuse[Made] = Reuse()

    def write(self, rows: list[str], fleet: str = FLEET, header: str = "instance,database,company,region") -> None:
        (self.path / "fleet.yaml").write_text(fleet)
        (self.path / "clients.csv").write_text("\n".join([header, *rows, ""]))

    def load(self, environ: dict[str, str] = ENVIRON, variables: tuple[str, ...] = ()) -> tuple[Manifest, ...]:
        given: dict[str, Any] = {"environ": environ, "variables": variables}
        return load_manifests([str(self.path)], reuse=self.reuse, **given)

    def first_time(self, environ: dict[str, str] = ENVIRON) -> tuple[Manifest, ...]:
        return load_manifests([str(self.path)], environ=environ)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    found = Folder(tmp_path)
    found.write(ROWS)
    return found


def described(manifests: tuple[Manifest, ...]) -> list[tuple[object, ...]]:
    return [
        (
            one.instance,
            one.document,
            one.labels,
            one.variables,
            one.origin.digest,
            one.origin.row,
            dict(one.origin.places),
        )
        for one in manifests
    ]


def same_objects(before: tuple[Manifest, ...], after: tuple[Manifest, ...]) -> list[bool]:
    return [one is other for one, other in zip(before, after, strict=True)]


def test_only_the_changed_row_is_made_again(folder: Folder) -> None:
    before = folder.load()
    folder.write([*ROWS[:2], "client-2,db_2,Outra,north", *ROWS[3:]])
    after = folder.load()
    assert same_objects(before, after) == [True, True, False, True, True]
    assert described(after) == described(folder.first_time())


def test_rows_that_moved_have_their_new_line(folder: Folder) -> None:
    folder.load()
    folder.write(["client-9,db_9,Nova,north", *ROWS])
    after = folder.load()
    assert [one.origin.row.rpartition(":")[2] for one in after] == ["2", "3", "4", "5", "6", "7"]
    assert described(after) == described(folder.first_time())


@pytest.mark.parametrize(
    ("environ", "variables"),
    [({"NODE_ENV": "production"}, ()), (ENVIRON, ("company=Todas",)), ({}, ())],
    ids=["environment", "extra", "unset"],
)
def test_what_had_a_say_makes_all_again(folder: Folder, environ: dict[str, str], variables: tuple[str, ...]) -> None:
    before = folder.load()
    after = folder.load(environ, variables)
    assert same_objects(before, after) == [False] * 5
    assert described(after) == described(load_manifests([str(folder.path)], environ=environ, variables=variables))


def test_one_and_true_are_two_values(folder: Folder) -> None:
    fleet = FLEET.replace('"{{ company }}"', '"x{{ company }}"')
    folder.write(ROWS, fleet)
    values = (folder.load(variables=(f'{{"company": {value}}}',))[0] for value in ("1", "true"))
    names = [one.document["config"]["company_name"] for one in values]
    assert names == ["x1", "xTrue"]


def test_another_fleet_document_makes_all_again(folder: Folder) -> None:
    before = folder.load()
    folder.write(ROWS, FLEET.replace("connect.example.com", "other.example.com"))
    assert same_objects(before, folder.load()) == [False] * 5


def test_columns_that_change_places_are_others(folder: Folder) -> None:
    folder.load()
    folder.write(ROWS, header="instance,database,region,company")
    after = folder.load()
    assert [one.labels for one in after] == [{"region": f"Empresa {number}"} for number in range(5)]
    assert described(after) == described(folder.first_time())


def test_a_row_that_breaks_is_found_and_heals(folder: Folder) -> None:
    before = folder.load()
    folder.write([*ROWS[:4], "client-0,db_9,Empresa,south"])
    with pytest.raises(ManifestError) as caught:
        folder.load()
    assert [problem.message.split(",")[0] for problem in caught.value.problems] == [
        'the instance "client-0" is declared twice'
    ]
    folder.write(ROWS)
    after = folder.load()
    assert same_objects(before, after) == [True, True, True, True, False]
    assert described(after) == described(folder.first_time())


def test_two_rows_with_one_database_are_refused(folder: Folder) -> None:
    folder.load()
    folder.write([*ROWS, "client-9,db_0,Nova,south"])
    with pytest.raises(ManifestError, match="one database"):
        folder.load()


def test_an_embedded_path_is_looked_at_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Folder(tmp_path / "manifests")
    folder.path.mkdir()
    text = "version: 1\ninstance: a\nenvironment: development\ndatabase: {url: 'embedded:data'}\n"
    text += "config: {connect_api_url: 'embedded:', instance_key: {env: KEY}}\n"
    (folder.path / "a.yaml").write_text(text)
    folder.load()
    (tmp_path / "data").symlink_to("/tmp")
    with pytest.raises(ManifestError, match="leads out of the working directory"):
        folder.load()


def test_of_a_folder_only_the_changed_file_is_made_again(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    text = "version: 1\ninstance: NAME\nenvironment: development\ndatabase: {url: 'postgresql://u@h/NAME'}\n"
    text += "config: {connect_api_url: 'https://c.example.com', instance_key: {env: KEY}}\n"
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.yaml").write_text(text.replace("NAME", name))
    before = folder.load()
    (tmp_path / "b.yaml").write_text(text.replace("NAME", "b") + "suspend: true\n")
    assert same_objects(before, folder.load()) == [True, False, True]


@pytest.mark.parametrize("seed", range(5))
def test_any_edits_load_as_if_for_the_first_time(folder: Folder, seed: int) -> None:
    chance, rows, number = random.Random(seed), list(ROWS), 100
    for _ in range(12):
        match chance.choice(("add", "take", "edit", "swap", "none")):
            case "add":
                number += 1
                rows.insert(chance.randrange(len(rows) + 1), f"client-{number},db_{number},Nova,north")
            case "take" if len(rows) > 1:
                rows.pop(chance.randrange(len(rows)))
            case "edit":
                at = chance.randrange(len(rows))
                rows[at] = rows[at].rsplit(",", 1)[0] + f",r{number}"
            case "swap":
                chance.shuffle(rows)
        folder.write(rows)
        assert described(folder.load()) == described(folder.first_time())
