"""validate, init, schema and fmt, as processes: output, exit codes, files."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from tests.support.cli_process import ROOT, Ended, fivrec

BROKEN = "version: 1\ninstance: a\nadmn: {}\n"


def said(ended: Ended) -> tuple[int, str]:
    return ended.code, ended.stdout


def test_validate_says_ok_for_each_file() -> None:
    manifests = ROOT / "manifests"
    ended = fivrec("validate", str(manifests / "client.yaml"), str(manifests / "examples" / "environments.yaml"))
    assert said(ended) == (
        0,
        f"{manifests}/client.yaml: ok (1 instance)\n{manifests}/examples/environments.yaml: ok (2 instances)\n",
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="root looks with another user's eyes")
def test_init_looks_beside_the_file_only_if_it_may(tmp_path: Path) -> None:
    from reconciler.cli.init import _read_manifests_beside

    (tmp_path / "a.yaml").write_text("instance: a")
    tmp_path.chmod(0o700)
    assert _read_manifests_beside(tmp_path / "b.yaml") == ["instance: a"]
    os.seteuid(65534)
    try:
        assert _read_manifests_beside(tmp_path / "b.yaml") == []
    finally:
        os.seteuid(0)


def test_validate_tells_every_problem_and_ends_in_65(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(BROKEN + "b: 010\n")
    ended = fivrec("validate", str(path))
    known = (
        "version, instance, labels, vars, database, environment, config, admin, queues, plans, expect, usage, ignore"
    )
    assert ended.code == 65
    assert ended.stdout.splitlines() == [
        f'{path}:3:1: a: unknown key "admn" (did you mean "admin"?)',
        f'{path}:4:1: a: unknown key "b" (known here: {known}, suspend)',
        f"{path}:4:4: a: a number that begins with 0 is octal in YAML 1.1 (write it in quotes)",
    ]


def test_validate_gives_json_also_when_it_failed(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(BROKEN)
    ended = fivrec("validate", "-o", "json", str(path))
    assert ended.code == 65
    assert json.loads(ended.stdout) == {
        "version": 1,
        "command": "validate",
        "valid": False,
        "instances": [],
        "problems": [
            {
                "path": str(path),
                "line": 3,
                "column": 1,
                "message": 'unknown key "admn"',
                "hint": 'did you mean "admin"?',
                "instance": "a",
                "row": "",
                "value": "",
            }
        ],
    }
    path.write_text("version: 1\ninstance: a\n")
    ended = fivrec("validate", "-o", "json", str(path))
    assert ended.code == 0
    assert json.loads(ended.stdout) == {
        "version": 1,
        "command": "validate",
        "valid": True,
        "instances": [{"instance": "a", "path": str(path), "line": 1}],
        "problems": [],
    }


def test_validate_needs_no_secret_and_runs_no_command(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(f"version: 1\ninstance: a\ndatabase: {{url: {{command: [touch, {tmp_path}/ran]}}}}\n")
    assert fivrec("validate", str(path)).code == 0
    assert not (tmp_path / "ran").exists()


def test_validate_exits_with_78_if_the_environment_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("version: 1\ninstance: a\nenvironment: {env: FIVREC_TEST_UNSET}\n")
    ended = fivrec("validate", "-o", "json", str(path))
    assert ended.code == 78
    assert json.loads(ended.stdout)["problems"][0]["message"] == (
        "environment variables are not set: a: environment: FIVREC_TEST_UNSET"
    )


def test_the_starter_is_valid_formatted_and_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "fivrec.yaml"
    assert fivrec("init", str(path), "--instance", "shop-1").code == 0
    assert fivrec("validate", str(path)).code == 0
    assert fivrec("fmt", "--check", str(path)).code == 0
    path.write_text("mine")
    assert fivrec("init", str(path)).code == 3
    assert path.read_text() == "mine"
    assert fivrec("init", "--force", str(path)).code == 0
    assert fivrec("init", "-").stdout == path.read_text()
    assert fivrec("init", "-", "--instance", "a b").code == 64


def test_schema_prints_the_file() -> None:
    schemas = ROOT / "schemas"
    assert said(fivrec("schema")) == (0, (schemas / "manifest.v1.editor.schema.json").read_text())
    assert said(fivrec("schema", "manifest-rendered")) == (0, (schemas / "manifest.v1.schema.json").read_text())
    assert said(fivrec("schema", "connect-status")) == (
        0,
        (ROOT / "schemas" / "connect" / "status.schema.json").read_text(),
    )
    assert fivrec("schema", "nonsense").code == 64
    assert {"manifest", "connect-plans"} <= set(fivrec("schema", "--list").stdout.split())


@pytest.fixture
def untidy(tmp_path: Path) -> Path:
    path = tmp_path / "m.yaml"
    path.write_text("instance: a # x\nversion:   1\n")
    path.chmod(0o640)
    return path


def test_fmt_check_lists_and_writes_nothing(untidy: Path) -> None:
    before = untidy.read_text()
    assert said(fivrec("fmt", "--check", str(untidy))) == (1, f"{untidy}\n")
    assert untidy.read_text() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_fmt_as_root_leaves_a_file_to_its_owner(untidy: Path) -> None:
    """Containers run as root in the folder of a user who edits the file afterwards."""
    os.chown(untidy, 65534, 65533)
    assert said(fivrec("fmt", str(untidy))) == (0, f"{untidy}\n")
    after = untidy.stat()
    assert (after.st_uid, after.st_gid, stat.S_IMODE(after.st_mode)) == (65534, 65533, 0o640)


def test_a_files_name_commands_no_pipeline(untidy: Path) -> None:
    odd = untidy.rename(untidy.with_name("a\n::error::x\x1b[31m.yaml"))
    shown = f"{untidy.parent}/a\\n::error::x\\x1b[31m.yaml"
    assert said(fivrec("validate", str(odd))) == (0, f"{shown}: ok (1 instance)\n")
    assert said(fivrec("fmt", "--check", str(odd))) == (1, f"{shown}\n")


def test_fmt_writes_once_and_keeps_the_mode(untidy: Path) -> None:
    assert said(fivrec("fmt", str(untidy.parent))) == (0, f"{untidy}\n")
    assert untidy.read_text() == "version: 1\ninstance: a # x\n"
    assert stat.S_IMODE(untidy.stat().st_mode) == 0o640
    assert said(fivrec("fmt", str(untidy.parent))) == (0, "")
    assert [path.name for path in untidy.parent.iterdir()] == ["m.yaml"]


def test_fmt_follows_a_link_and_leaves_it(untidy: Path) -> None:
    link = untidy.with_name("link.yaml")
    link.symlink_to(untidy)
    assert fivrec("fmt", str(link)).code == 0
    assert link.is_symlink()
    assert untidy.read_text() == "version: 1\ninstance: a # x\n"


def test_fmt_tells_what_it_cannot_read_and_formats_the_rest(untidy: Path) -> None:
    broken = untidy.with_name("b.yaml")
    broken.write_text("a: [\n")
    ended = fivrec("fmt", str(untidy.parent))
    assert said(ended) == (65, f"{untidy}\n")
    assert broken.read_text() == "a: [\n"


def test_fmt_formats_the_rest_of_what_it_can_not_format(untidy: Path) -> None:
    kept = untidy.with_name("a.yaml")
    kept.write_text("%YAML 1.2\n---\nversion: 1\n")
    ended = fivrec("fmt", str(untidy.parent))
    assert said(ended) == (1, f"{untidy}\n")
    assert f"{kept}:1:1: a file with the directive %YAML 1.2 is not formatted" in ended.stderr
    assert kept.read_text() == "%YAML 1.2\n---\nversion: 1\n"
    untidy.with_name("b.yaml").write_text("a: [\n")
    both = fivrec("fmt", str(untidy.parent))
    assert (both.code, both.stderr.count(".yaml:")) == (65, 2)


def test_init_for_a_second_client_takes_variables_of_its_own(tmp_path: Path) -> None:
    assert fivrec("init", "clients/client-abc-123.yaml", cwd=tmp_path).stderr.count("\n") == 1
    ended = fivrec("init", "clients/client-def-456.yaml", cwd=tmp_path)
    own = ["DATABASE_URL_CLIENT_DEF_456", "FIV_APP_API_KEY_CLIENT_DEF_456", "FIV_ADMIN_PASSWORD_CLIENT_DEF_456"]
    assert ended.stderr.splitlines()[0] == (
        f"another manifest there takes DATABASE_URL, so this one takes {', '.join(own)}"
    )
    rendered = fivrec("render", "clients", "-o", "json", cwd=tmp_path)
    assert [
        (
            item["instance"],
            item["database"]["url"]["env"],
            item["config"]["instance_key"]["env"],
            item["admin"]["password"]["env"],
            item["config"]["connect_api_url"]["env"],
        )
        for item in [found["manifest"] for found in json.loads(rendered.stdout)["instances"]]
    ] == [
        ("client-abc-123", "DATABASE_URL", "FIV_APP_API_KEY", "FIV_ADMIN_PASSWORD", "FIV_APP_API_URL"),
        ("client-def-456", *own, "FIV_APP_API_URL"),
    ]
    again = fivrec("init", "--force", "clients/client-abc-123.yaml", "--instance", "other", cwd=tmp_path)
    assert again.code == 0
    assert "{env: DATABASE_URL," in (tmp_path / "clients" / "client-abc-123.yaml").read_text()


def test_init_beside_other_manifests_is_named_after_its_file(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("version: 1\ninstance: other\n")
    ended = fivrec("init", "client-new.yaml", cwd=tmp_path)
    assert (
        ended.stderr == "client-new.yaml written, for the instance client-new; next: fivrec validate client-new.yaml\n"
    )
    found = json.loads(fivrec("render", "client-new.yaml", "-o", "json", cwd=tmp_path).stdout)
    assert [item["instance"] for item in found["instances"]] == ["client-new"]


def test_init_in_a_folder_for_each_client_declares_none_twice(tmp_path: Path) -> None:
    for file in ("acme/prod.yaml", "beta/prod.yaml", "gama/prod.yaml"):
        assert fivrec("init", file, cwd=tmp_path).code == 0
    ended = fivrec("render", ".", "-o", "json", cwd=tmp_path)
    named = [found["manifest"] for found in json.loads(ended.stdout)["instances"]]
    assert sorted((item["instance"], item["database"]["url"]["env"]) for item in named) == [
        ("beta", "DATABASE_URL_BETA"),
        ("client-abc-123", "DATABASE_URL"),
        ("gama", "DATABASE_URL_GAMA"),
    ]


def test_init_asks_for_a_name_if_the_file_has_none(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("version: 1\ninstance: client-abc-123\n")
    ended = fivrec("init", "a b.yaml", cwd=tmp_path)
    assert (ended.code, "leave no instance's name for a b.yaml" in ended.stderr) == (64, True)
    again = fivrec("init", "y.yaml", "--instance", "client-abc-123", cwd=tmp_path)
    assert (again.code, "another manifest there declares client-abc-123 too" in again.stderr) == (0, True)
    assert not (tmp_path / "a b.yaml").exists()


def test_init_beside_yaml_of_others_is_the_first_client(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    assert "for the instance client-abc-123;" in fivrec("init", "m.yaml", cwd=tmp_path).stderr


def test_init_makes_the_folder(tmp_path: Path) -> None:
    ended = fivrec("init", "clients/south/x.yaml", cwd=tmp_path)
    assert (ended.code, ended.stdout) == (0, "")
    assert (tmp_path / "clients" / "south" / "x.yaml").read_text().startswith("# A fivrec manifest")
    (tmp_path / "file").touch()
    refused = fivrec("init", "file/x.yaml", cwd=tmp_path)
    assert refused.code == 1
    assert "the folder of file/x.yaml cannot be made: file exists" in refused.stderr


def test_init_of_an_empty_path_is_64(tmp_path: Path) -> None:
    ended = fivrec("init", "", cwd=tmp_path)
    assert (ended.code, "an empty path names no file" in ended.stderr) == (64, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["client.json", "client.JSON"])
def test_init_writes_no_yaml_into_a_file_of_json(tmp_path: Path, name: str) -> None:
    ended = fivrec("init", "--force", name, cwd=tmp_path)
    assert (ended.code, "name a .yaml file" in ended.stderr) == (64, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("there",), ("there/",), ("new/",), ("there", "--force")])
def test_a_folder_is_no_file_to_write(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "there").mkdir()
    ended = fivrec("init", *words, cwd=tmp_path)
    file = words[0].removesuffix("/")
    assert (ended.code, ended.stderr) == (
        64,
        f"error [usage]: {words[0]} is a folder\n  name a file in it, such as {file}/fivrec.yaml\n",
    )
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
