"""`fivrec render`: prints the manifests as they would be applied, and the result still is a manifest."""

from __future__ import annotations

import pytest

from reconciler.manifest.loader import load_manifests
from tests.support.harness import Fivrec

FLEET = """\
version: 1
defaults:
  vars: {company: Nobody}
  environment: {env: NODE_ENV, default: development}
  database: {url: {env: "DB_{{ instance }}"}}
  config:
    company_name: "{{ company }}"
    instance_key: {file: key}
    settings: {braces: "{{ '{{' }} x }}", number: "1e3", evil: "##[x]"}
  admin: {email: "{{ email | lower }}", password: {env: P, generate: true}}
  queues: [{name: Sales}]
instances: {csv: clients.csv}
overrides: {b: {queues: {items: [{name: Night}], unmanaged: deactivate}}}
"""


@pytest.fixture
def fleet(bare: Fivrec) -> Fivrec:
    bare.write(FLEET, "fleet.yaml")
    bare.write("instance,company,email\na, A {{ x }} ,A@x.org\nb,B,b@x.org\n", "clients.csv")
    return bare


def test_a_rendered_manifest_loads_the_same(fleet: Fivrec) -> None:
    for env in ({}, {"NODE_ENV": "production"}):
        ended = fleet.run("render", "fleet.yaml", **env)
        assert (ended.code, ended.stderr) == (0, "")
        fleet.write(ended.stdout, "rendered.yaml")
        paths = (str(fleet.folder / "fleet.yaml"), str(fleet.folder / "rendered.yaml"))
        before, after = (load_manifests((path,), environ=env) for path in paths)
        assert [one.document for one in after] == [one.document for one in before]
        assert [line for line in ended.stdout.splitlines() if line.startswith("#")] == [
            "# fleet.yaml:1 clients.csv:2",
            "# fleet.yaml:1 clients.csv:3",
        ]


def test_an_environment_that_only_a_run_asks_for_stays_a_reference(fleet: Fivrec) -> None:
    reference = "{file: environment.txt, default: development}"
    fleet.write(FLEET.replace("{env: NODE_ENV, default: development}", reference), "fleet.yaml")
    ended = fleet.run("render", "fleet.yaml", "-o", "json")
    names = [one["manifest"]["environment"]["name"] for one in ended.json["instances"]]
    assert names == [{"file": "environment.txt", "default": "development"}] * 2
    assert fleet.run("validate", "--strict", "fleet.yaml").code == 0
    text = FLEET.replace("{env: NODE_ENV, default: development}", reference)
    fleet.write(text.replace('"{{ company }}"', '"{{ company }} {{ environment }}"'), "fleet.yaml")
    ended = fleet.run("render", "fleet.yaml", "-o", "json")
    said = "a, b: templates read the environment, which a run asks for: render is offline"
    assert (ended.code, ended.json["error"]["message"]) == (78, said)


def test_json_has_references_in_place_of_secrets(fleet: Fivrec) -> None:
    ended = fleet.run("render", "fleet.yaml", "-o", "json", "-l", "a", DB_a="hunter2", P="hunter2")
    document = ended.json
    assert (ended.code, "hunter2" in ended.stdout) == (0, False)
    (found,) = document["instances"]
    assert {key: document[key] for key in ("version", "command")} == {"version": 1, "command": "render"}
    assert [found[key] for key in ("instance", "path", "line", "row")] == ["a", "fleet.yaml", 1, "clients.csv:2"]
    manifest = found["manifest"]
    assert manifest["environment"]["name"] == {"env": "NODE_ENV", "default": "development"}
    assert manifest["database"]["url"] == {"env": "DB_a"}
    assert manifest["config"]["instance_key"] == {"file": "key"}
    assert manifest["admin"]["email"] == "a@x.org"
    assert manifest["queues"]["items"] == [
        {"name": "Sales", "description": None, "is_active": True},
    ]


FILES = """\
version: 1
instance: a
environment: development
database: {url: {file: ./url}}
config:
  connect_api_url: "embedded:"
  instance_key: {file: keys/a}
  settings: {x: {secret: {file: smtp}}, y: {secret: {file: smtp}, port: 1}, z: {file: x}}
"""


def test_files_are_named_from_the_working_directory(bare: Fivrec) -> None:
    (bare.folder / "m").mkdir()
    bare.write(FILES, "m/a.yaml")
    ended = bare.run("render", "m/a.yaml")
    assert (ended.code, ended.stderr) == (0, "")
    bare.write(ended.stdout, "rendered.yaml")
    (found,) = bare.run("render", "rendered.yaml", "-o", "json").json["instances"]
    assert found["manifest"]["database"]["url"] == {"file": "m/url"}
    config = found["manifest"]["config"]
    assert config["instance_key"] == {"file": "m/keys/a"}
    assert config["settings"] == {
        "x": {"secret": {"file": "m/smtp"}},
        "y": {"secret": {"file": "smtp"}, "port": 1},
        "z": {"file": "x"},
    }


def test_files_with_unnameable_paths_are_reported(bare: Fivrec) -> None:
    outside = bare.folder.parent / f"{bare.folder.name}-outside.yaml"
    outside.write_text(FILES)
    ended = bare.run("render", str(outside))
    assert "file: keys/a" in ended.stdout
    assert ended.stderr == (
        "⚠️ a: files of {file: …} are not below this folder: apply the output in the manifest's folder\n"
    )


def test_an_invalid_manifest_is_not_rendered(fleet: Fivrec) -> None:
    fleet.write("instance,company,email\na,A,none\n", "clients.csv")
    ended = fleet.run("render", "fleet.yaml", "-o", "json")
    assert (ended.code, ended.json["instances"]) == (65, [])
    problems = {(one["instance"], one["row"], one["value"]) for one in ended.json["error"]["problems"]}
    assert ("a", "clients.csv:2", '"none"') in problems
