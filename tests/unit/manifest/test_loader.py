"""Loading manifests: the result, and what is refused, each with its exact position."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler.manifest.loader import Manifest, load_manifests, load_sound
from reconciler.model.errors import ManifestError, ManifestProblem, MissingSetting, UsageError
from reconciler.model.types import canonical

ROOT = Path(__file__).parents[3]

Load = Callable[..., tuple[Manifest, ...]]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Writes m.yaml, or the given files, into a temporary folder and loads them there."""
    monkeypatch.chdir(tmp_path)

    def run(text: str | Mapping[str, str], *paths: str, environ: Mapping[str, str] | None = None, **more: Any):  # type: ignore[no-untyped-def]
        files = {"m.yaml": text} if isinstance(text, str) else text
        for name, content in files.items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(content, encoding="utf-8")
        return load_manifests(paths or ("m.yaml",), environ=environ or {}, **more)

    return run


def problems(call: Callable[[], object]) -> tuple[ManifestProblem, ...]:
    with pytest.raises(ManifestError) as caught:
        call()
    return caught.value.problems


def test_the_shortest_manifest_has_all_defaults(load: Load) -> None:
    (manifest,) = load("version: 1\ninstance: a\n")
    document = {
        "version": 1,
        "instance": "a",
        "labels": {},
        "database": {"url": {"env": "DATABASE_URL"}, "create": True, "schema": "public"},
        "environment": {"name": "production", "isolation": "constraints", "purge_development_data": False},
        "config": {
            "connect_api_url": {"env": "FIV_APP_API_URL"},
            "instance_key": {"env": "FIV_APP_API_KEY"},
            "check_interval_minutes": 60,
            "settings": {},
            "former_settings": "keep",
        },
        "ignore": [],
        "suspend": False,
    }
    assert (manifest.instance, manifest.labels, manifest.document) == ("a", {}, document)
    assert (manifest.origin.path, manifest.origin.line, manifest.folder) == ("m.yaml", 1, Path())
    assert manifest.origin.digest == hashlib.sha256(canonical(document).encode()).hexdigest()
    assert manifest.origin.origins["database/url"] == "default"
    assert manifest.origin.origins["environment/name"] == "default"


def test_short_forms_become_long_ones(load: Load) -> None:
    (manifest,) = load(
        "version: 1\ninstance: a\nenvironment: development\nadmin: {email: a@b.c}\nqueues: [{name: x}]\n"
        "plans: {source: connect}\nusage: {}\nexpect: {status: active}\n"
    )
    document = manifest.document
    assert document["environment"] == {
        "name": "development",
        "isolation": "constraints",
        "purge_development_data": False,
    }
    assert document["admin"] == {
        "name": "Administrador",
        "email": "a@b.c",
        "password": {"env": "FIV_ADMIN_PASSWORD"},
        "update_password": "on_create",
        "bcrypt_cost": 12,
        "former": "demote",
    }
    assert document["queues"] == {
        "items": [{"name": "x", "description": None, "is_active": True}],
        "unmanaged": "keep",
        "former": "deactivate",
    }
    assert document["plans"] == {"source": "connect", "unmanaged": "deactivate"}
    assert (document["usage"], document["expect"]) == ({"report": False}, {"status": "active"})


def test_plans_of_the_manifest_have_the_columns_defaults(load: Load) -> None:
    (manifest,) = load(
        "version: 1\ninstance: a\nplans:\n  source: manifest\n"
        "  items: [{id: p, name: P, price: 2900, billing_interval: monthly}]\n"
    )
    assert manifest.document["plans"]["items"] == [
        {
            "id": "p",
            "name": "P",
            "description": None,
            "price": 2900,
            "currency": "BRL",
            "billing_interval": "monthly",
            "features": [],
            "max_users": 1,
            "max_conversations": 100,
            "storage_limit": 1000,
            "is_active": True,
            "stripe_product_id": None,
            "stripe_price_id": None,
        }
    ]


def test_places_and_origins_tell_where_a_value_came_from(load: Load) -> None:
    (manifest,) = load(
        'version: 1\ninstance: a\nvars: {company: X}\nconfig:\n  company_name: "{{ company }}"\nqueues:\n  - name: x\n'
    )
    origin = manifest.origin
    assert origin.places["config/company_name"] == (5, 17)
    assert origin.places["queues/items/0/name"] == (7, 11)
    assert origin.places.get("config/check_interval_minutes") is None
    assert origin.origins["config/company_name"] == "variable company"
    assert origin.origins["config/check_interval_minutes"] == "default"


def test_the_quick_start_and_all_examples_are_valid() -> None:
    manifests = load_manifests([str(ROOT / "manifests")], environ={})
    assert [manifest.instance for manifest in manifests] == [
        "client-abc-123",
        "academia-forca",
        "loja-central",
        "loja-central-dev",
        "clinica-vida",
        "auto-posto-br101",
        "escola-aurora",
        "fleet-one",
        "fleet-two",
        "fleet-three",
        "padaria-sao-jorge",
    ]


def test_a_simple_manifest_imports_no_jinja_and_no_jsonschema() -> None:
    path = ROOT / "manifests" / "client.yaml"
    code = (
        "import sys; from reconciler.manifest.loader import load_manifests;"
        f"load_manifests([{str(path)!r}], environ={{}});"
        "print({'jinja2', 'jsonschema', 'httpx', 'psycopg', 'csv'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n"


HEAD = "version: 1\ninstance: a\n"

REFUSED: dict[str, tuple[str, list[tuple[int, int, str]]]] = {
    "unknown key": (HEAD + "admn: {email: a@b.c}\n", [(3, 1, 'unknown key "admn"')]),
    "unknown key below": (HEAD + "admin:\n  email: a@b.c\n  nmae: x\n", [(5, 3, 'unknown key "nmae"')]),
    "missing keys": ("labels: {}\n", [(1, 1, '"instance" is missing'), (1, 1, '"version" is missing')]),
    "missing email": (HEAD + "admin:\n  name: x\n", [(3, 1, '"email" is missing')]),
    "another version": ("version: 2\ninstance: a\n", [(1, 10, "must be 1")]),
    "bad instance": ("version: 1\ninstance: -a\n", [(2, 11, "is not a valid instance name")]),
    "no where text is expected": (
        HEAD + "admin: {email: a@b.c, name: no}\n",
        [(3, 29, "no without quotes is false in YAML 1.1")],
    ),
    "on in free values": (
        HEAD + "config:\n  settings: {a: on}\n",
        [(4, 17, "on without quotes is true in YAML 1.1")],
    ),
    "off in variables": (HEAD + "vars:\n  a: [off]\n", [(4, 7, "off without quotes is false in YAML 1.1")]),
    "a date where text is expected": (
        HEAD + "config: {company_name: 2026-01-01}\n",
        [(3, 24, "an unquoted date is not text in YAML 1.1")],
    ),
    "octal and sexagesimal": (
        HEAD + "config:\n  settings: {a: 010, b: 12:30}\n",
        [
            (4, 17, "a number that begins with 0 is octal in YAML 1.1"),
            (4, 25, "digits with colons are a base 60 number in YAML 1.1"),
        ],
    ),
    "a list": ("- a\n", [(1, 1, "a manifest is a mapping")]),
    "an empty document": (HEAD + "---\n", [(4, 1, "the document is empty")]),
    "an empty file": ("", [(1, 1, "the file is empty")]),
    "a secret as plain text": (
        HEAD + "admin:\n  email: a@b.c\n  password: hunter2\nconfig: {instance_key: hunter2}\n",
        [
            (5, 13, "a secret must not stand in the manifest as plain text"),
            (6, 24, "a secret must not stand in the manifest as plain text"),
        ],
    ),
    "a default password": (
        HEAD + "admin: {email: a@b.c, password: {env: X, default: hunter2}}\n",
        [(3, 42, 'unknown key "default"')],
    ),
    "a default key": (
        HEAD + "config: {instance_key: {env: X, default: hunter2}}\n",
        [(3, 42, 'must be "embedded:"')],
    ),
    "a schema's name that PostgreSQL would cut": (
        HEAD + f"database: {{url: 'postgresql://u@h/d', schema: {'é' * 32}}}\n",
        [(3, 47, "the schema's name has more than 63 bytes, and PostgreSQL cuts it there")],
    ),
    "a schema of PostgreSQL's": (
        HEAD + "database: {url: 'postgresql://u@h/d', schema: pg_app}\n",
        [(3, 47, "the schema's name is PostgreSQL's, or fivrec's, own")],
    ),
    "a password in the URL": (
        HEAD + "database: {url: 'postgresql://u:hunter2@h/d'}\n",
        [(3, 17, "the database URL holds a password")],
    ),
    "a password in the URL's query": (
        HEAD + "database: {url: 'postgres://u@h/d?pass%77ord=hunter2'}\n",
        [(3, 17, "the database URL holds a password")],
    ),
    "a password in key=value form": (
        HEAD + "database: {url: \"host=h password='hunter2 x' dbname=d\"}\n",
        [(3, 17, "the database URL holds a password")],
    ),
    "no database URL": (
        HEAD + "database: {url: mysql://hunter2}\n",
        [(3, 17, "the database URL is not a postgresql:// URL")],
    ),
    "a database URL that libpq can't read": (
        HEAD + "database: {url: 'postgresql://u@h/hunter2%ZZ'}\n",
        [(3, 17, "the database URL can't be read: it has a % that is no escape such as %40")],
    ),
    "two queues of one name": (
        HEAD + "queues:\n  - name: x\n  - name: y\n  - name: x\n",
        [(6, 11, 'two queues have the name "x" (entries 1 and 3)')],
    ),
    "two plans of one id": (
        HEAD + "plans:\n  source: manifest\n  items:\n"
        "    - {id: p, name: A, price: 1, billing_interval: m}\n"
        "    - {id: p, name: B, price: 1, billing_interval: m}\n",
        [(7, 12, 'two plans have the id "p" (entries 1 and 2)')],
    ),
    "an empty plan id": (
        HEAD + "plans:\n  source: manifest\n  items: [{id: '', name: A, price: 1, billing_interval: m}]\n",
        [(5, 16, "must not be empty")],
    ),
    "a rename to itself": (
        HEAD + "queues: [{name: x, renamed_from: x}]\nadmin: {email: a@b.c, renamed_from: a@b.c}\n",
        [(3, 34, "renamed_from is the queue's own name"), (4, 37, "renamed_from is the email itself")],
    ),
    "a rename from a declared queue": (
        HEAD + "queues: [{name: x, renamed_from: y}, {name: y}]\n",
        [(3, 34, "renamed_from names a queue that is declared as well")],
    ),
    "a bad email": (HEAD + "admin: {email: nobody}\n", [(3, 16, "is not a valid email")]),
    "no such day": (
        HEAD + "ignore:\n  - {field: queue/x, until: 2026-02-30, reason: y}\n",
        [(4, 29, "there is no such day")],
    ),
    "no such kind": (
        HEAD + "ignore: [{field: quue/x, reason: y}]\n",
        [(3, 18, "the field begins with no kind of resource")],
    ),
    "interval 0": (HEAD + "config: {check_interval_minutes: 0}\n", [(3, 34, "must be at least 1")]),
    "bcrypt too cheap": (HEAD + "admin: {email: a@b.c, bcrypt_cost: 4}\n", [(3, 36, "must be at least 12")]),
    "company twice": (
        HEAD + "config: {company_name: x, settings: {company_name: y}}\n",
        [(3, 52, "company_name is declared twice")],
    ),
    "http to another machine": (
        HEAD + "environment: development\nconfig: {connect_api_url: 'http://10.0.0.1'}\n",
        [(4, 27, "the Connect URL uses http:// to another machine; use https://")],
    ),
    "http to loopback in production": (
        HEAD + "config: {connect_api_url: 'http://127.0.0.1:8080'}\n",
        [(3, 27, "the Connect URL uses http://, which production does not allow; use https://")],
    ),
    "credentials in the Connect URL": (
        HEAD + "config: {connect_api_url: 'https://u:hunter2@connect.example'}\n",
        [(3, 27, "the Connect URL holds a user name or password; the instance key is sent in headers")],
    ),
    "a metadata service": (
        HEAD + "config: {connect_api_url: 'https://169.254.169.254/'}\n",
        [(3, 27, "the Connect URL names a metadata service")],
    ),
    "a bad default of the Connect URL": (
        HEAD + "config: {connect_api_url: {env: X, default: 'http://example.com'}}\n",
        [(3, 45, "the Connect URL uses http:// to another machine; use https://")],
    ),
    "an undefined variable": (
        HEAD + 'config:\n  company_name: "{{ compny }}"\nvars: {company: x}\n',
        [(4, 17, '"compny" is not defined')],
    ),
    "a call in a template": (
        HEAD + 'queues:\n  - name: "{{ x() }}"\n',
        [(4, 11, "a call is not allowed in a template")],
    ),
    "a rendered value of another type": (
        HEAD + 'vars: {m: "x"}\nconfig: {check_interval_minutes: "{{ m }}"}\n',
        [(4, 34, "must be a whole number, not text")],
    ),
    "a variable with a name that is taken": (
        HEAD + "vars: {instance: x}\n",
        [(3, 8, '"instance" is not a valid key here')],
    ),
    "a fleet without instances": ("version: 1\ndefaults: {}\n", [(1, 1, '"instances" is missing')]),
    "a fleet of none": ("version: 1\ninstances: []\n", [(2, 12, "must not be empty")]),
    "a fleet with an unknown key": (
        "version: 1\ndefaults: {}\ninstances: [{instance: a}]\nqueues: []\n",
        [(4, 1, 'unknown key "queues"')],
    ),
    "an unknown key in defaults": (
        "version: 1\ndefaults:\n  admn: {}\ninstances: [{instance: a}, {instance: b}]\n",
        [(3, 3, 'unknown key "admn"'), (3, 3, 'unknown key "admn"')],
    ),
    "an unknown key in an entry": (
        "version: 1\ninstances:\n  - instance: a\n    queus: []\n",
        [(4, 5, 'unknown key "queus"')],
    ),
    "queues of one name in two spellings": (
        HEAD + 'queues: [{name: "e\\u0301"}, {name: "\\u00e9"}]\n',
        [(3, 36, 'two queues have the name "é" (entries 1 and 2)')],
    ),
    "an instance twice": (
        "version: 1\ninstances:\n  - instance: a\n  - instance: a\n",
        [(4, 15, 'the instance "a" is declared twice, first at m.yaml:3')],
    ),
    "two instances on one database": (
        (
            "version: 1\ndefaults: {database: {url: 'postgres://u@localhost/d'}}\ninstances:\n  - instance: a\n"
            "  - {instance: b, database: {url: 'host=127.0.0.1 port=5432 dbname=d'}}\n"
        ),
        [(5, 35, "two instances have one database, the other at m.yaml:4")],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_at_its_place(name: str, load: Load) -> None:
    text, expected = REFUSED[name]
    found = problems(lambda: load(text))
    assert [(problem.line, problem.column, problem.message) for problem in found] == expected
    assert {problem.path for problem in found} == {"m.yaml"}
    assert "hunter2" not in "".join(map(str, found))


def test_all_problems_of_all_files_come_at_once(load: Load) -> None:
    files = {
        "b.yaml": HEAD + "x: 1\n",
        "a.yaml": "a: [\n",
        "c.yaml": "version: 1\ninstance: c\n---\n" + HEAD + "y: 1\n",
    }
    found = problems(lambda: load(files, "b.yaml", "a.yaml", "gone.yaml", "c.yaml"))
    assert [str(problem).partition(" (")[0] for problem in found] == [
        "a.yaml:2:1: YAML: while parsing a flow node did not find expected node content",
        'b.yaml:3:1: a: unknown key "x"',
        'c.yaml:5:11: a: the instance "a" is declared twice, first at b.yaml:1',
        'c.yaml:6:1: a: unknown key "y"',
        "gone.yaml: cannot be read: no such file or directory",
    ]


def test_unknown_keys_name_the_nearest(load: Load) -> None:
    (problem,) = problems(lambda: load(HEAD + "enviroment: production\n"))
    assert problem == ManifestProblem("m.yaml", 3, 1, 'unknown key "enviroment"', 'did you mean "environment"?', "a")


def test_folders_are_read_in_order_without_hidden_ones(load: Load) -> None:
    files = {
        "d/b.yml": "version: 1\ninstance: b\n",
        "d/a.yaml": "version: 1\ninstance: a\n",
        "d/sub/c.yaml": "version: 1\ninstance: c\n",
        "d/.hidden/x.yaml": "nonsense: [",
        "d/.x.yaml": "nonsense: [",
        "d/notes.txt": "nonsense: [",
    }
    assert [manifest.origin.path for manifest in load(files, "d")] == ["d/a.yaml", "d/b.yml", "d/sub/c.yaml"]


def test_links_stay_inside_the_given_path(load: Load, tmp_path: Path) -> None:
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "shadow").write_text("root: hunter2\n")
    for name, target in {
        "loop": tmp_path / "d",
        "sub/loop": tmp_path / "d" / "sub",
        "all": Path("/"),
        "away": tmp_path / "out",
        "shadow.yaml": tmp_path / "shadow",
        "log.yaml": Path("/proc/kmsg"),
        "zero.yaml": Path("/dev/zero"),
        "notes.txt": tmp_path / "shadow",
    }.items():
        (tmp_path / "d" / name).symlink_to(target)
    os.mkfifo(tmp_path / "d" / "fifo.yaml")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tmp_path / "d" / "socket.yaml"))
    with pytest.raises(ManifestError) as caught:
        load({"d/a.yaml": HEAD}, "d")
    out, loop = "is a link that leads out of the given path", "is a link to a folder that contains it"
    assert {one.path: one.message for one in caught.value.problems} == {
        "d/loop": loop,
        "d/sub/loop": loop,
        "d/all": out,
        "d/away": out,
        "d/shadow.yaml": out,
        "d/log.yaml": out,
        "d/zero.yaml": out,
        "d/fifo.yaml": "is not a regular file",
        "d/socket.yaml": "is not a regular file",
    }
    assert "hunter2" not in str(caught.value)


def test_a_config_map_is_read_through_its_links(load: Load, tmp_path: Path) -> None:
    data = tmp_path / "d" / "..2026_11_26"
    data.mkdir(parents=True)
    (data / "a.yaml").write_text(HEAD + "database: {url: {file: url}}\n")
    (tmp_path / "d" / "..data").symlink_to("..2026_11_26")
    (tmp_path / "d" / "a.yaml").symlink_to("..data/a.yaml")
    assert [(one.origin.path, one.folder) for one in load({}, "d")] == [("d/a.yaml", Path("d"))]


@pytest.mark.skipif(os.geteuid() != 0, reason="root looks with another user's eyes")
def test_a_folder_that_may_not_be_entered_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(ManifestError) as refused:
            load_manifests([str(tmp_path / "m.yaml")], environ={})
    finally:
        os.seteuid(0)
    assert "permission denied" in str(refused.value.problems).lower()


@pytest.mark.parametrize("path", ["fifo", "/dev/zero", "/dev/full"])
def test_a_named_path_that_is_no_regular_file_is_refused(path: str, load: Load, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (problem,) = problems(lambda: load({}, path))
    assert (problem.path, problem.message) == (path, "is not a regular file")
    (problem,) = problems(lambda: load(HEAD, "m.yaml", variables=(f"@{path}",)))
    assert (problem.path, problem.message) == (path, "is not a regular file")


def test_a_pipe_of_the_shell_is_read(load: Load) -> None:
    reading, writing = os.pipe()
    os.write(writing, HEAD.encode())
    os.close(writing)
    assert [one.instance for one in load({}, f"/dev/fd/{reading}")] == ["a"]
    os.close(reading)


def test_upper_case_endings_count(load: Load) -> None:
    files = {"d/A.YAML": HEAD, "d/B.Yml": HEAD.replace("instance: a", "instance: b")}
    assert [one.instance for one in load(files, "d")] == ["a", "b"]


def test_a_named_manifest_that_cannot_be_opened_is_a_problem(load: Load, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "dangling.yaml").symlink_to(folder / "nowhere")
    (folder / "itself.yml").symlink_to(folder / "itself.yml")
    (folder / "other.txt").symlink_to(folder / "other.txt")
    assert [(one.path, one.message) for one in problems(lambda: load({"d/a.yaml": HEAD}, "d"))] == [
        ("d/dangling.yaml", "cannot be read: no such file or directory"),
        ("d/itself.yml", "cannot be read: too many levels of symbolic links"),
    ]


def test_a_folder_that_cannot_be_read_is_a_problem(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.scandir

    def scandir(path: str) -> Any:
        if path.endswith(("closed", "lost+found")):  # like another user's folder; root may read all
            raise PermissionError(errno.EACCES, "denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    files = {"d/a.yaml": HEAD, "d/closed/b.yaml": HEAD, "d/lost+found/c.yaml": HEAD}
    (problem,) = problems(lambda: load(files, "d"))
    assert (problem.path, problem.message) == ("d/closed", "cannot be read: permission denied")


def test_a_file_that_is_named_twice_is_read_once(load: Load) -> None:
    assert len(load({"d/a.yaml": HEAD}, "d", "d/a.yaml", "./d/a.yaml")) == 1


def test_a_folder_without_manifests_is_a_problem(load: Load) -> None:
    (problem,) = problems(lambda: load({"d/x.txt": ""}, "d"))
    assert (problem.path, problem.message) == ("d", "the folder holds no manifests")


def test_a_submodule_that_is_not_checked_out_is_a_problem(load: Load, tmp_path: Path) -> None:
    """A clone leaves its folder empty: otherwise nothing would say that its declarations were not read."""
    modules = '[submodule "b"]\n\tpath = d/b\n\turl = https://e.com/b\n[submodule "c"]\n\tpath = "d/c c"\n\turl = x\n'
    for name in ("d/b", "d/c c", "d/empty", ".git"):
        (tmp_path / name).mkdir(parents=True)
    files = {"d/a.yaml": HEAD, ".gitmodules": modules}
    lost = "is a Git submodule that is not checked out"
    assert [(one.path, one.message) for one in problems(lambda: load(files, "d"))] == [("d/b", lost), ("d/c c", lost)]
    assert [(one.path, one.message) for one in problems(lambda: load(files, "d/b"))] == [("d/b", lost)]
    for name in ("d/b/.git", "d/c c/.git"):
        (tmp_path / name).write_text("gitdir: …", encoding="utf-8")
    assert len(load(files, "d")) == 1


def test_a_strangers_list_of_submodules_is_read_at_once(load: Load, tmp_path: Path) -> None:
    """A pull request can add a submodule, which is an empty folder, and any text that should name it."""
    for name in ("d/b", ".git"):
        (tmp_path / name).mkdir(parents=True)
    modules = "\n" * 400_000 + "path = d" + " " * 400_000 + "/b\n\tpath = d/b\n"
    (problem,) = problems(lambda: load({"d/a.yaml": HEAD, ".gitmodules": modules}, "d"))
    assert problem.message == "is a Git submodule that is not checked out"


def test_standard_input_is_read_for_a_dash(load: Load) -> None:
    (manifest,) = load("", "-", stdin=io.BytesIO(HEAD.encode()))
    assert (manifest.instance, manifest.origin.path) == ("a", "<stdin>")


def test_the_same_instance_in_two_files_names_both_places(load: Load) -> None:
    (problem,) = problems(lambda: load({"a.yaml": "#\n" + HEAD, "b.yaml": HEAD}, "a.yaml", "b.yaml"))
    assert str(problem) == (
        'b.yaml:2:11: a: the instance "a" is declared twice, first at a.yaml:2 (keep one of the two)'
    )


FLEET = """\
version: 1
defaults:
  labels: {tier: basic, region: south}
  vars: {greeting: "Olá {{ company }}", company: Ninguém}
  environment: development
  admin: {name: Chefe}
  queues: {unmanaged: deactivate, items: [{name: One}]}
  config: {company_name: "{{ greeting }}", settings: {a: 1, b: [1, 2]}}
  database: {url: {env: SHARED, default: "embedded:"}}
instances:
  - instance: a
    vars: {company: Empresa A}
    labels: {tier: gold}
    admin: {email: a@b.c}
    queues: [{name: Two}]
    config: {settings: {b: [3]}}
    environment: {isolation: enforced}
  - instance: b
    admin: {email: b@b.c, name: Outra}
    database: {url: {file: url.txt}}
"""


def test_a_fleet_merges_maps_and_replaces_lists(load: Load) -> None:
    one, two = (manifest.document for manifest in load(FLEET))
    assert one["labels"] == {"tier": "gold", "region": "south"}
    assert (one["admin"]["name"], one["admin"]["email"]) == ("Chefe", "a@b.c")
    assert one["queues"] == {
        "unmanaged": "deactivate",
        "former": "deactivate",
        "items": [{"name": "Two", "description": None, "is_active": True}],
    }
    assert (one["config"]["company_name"], one["config"]["settings"]) == ("Olá Empresa A", {"a": 1, "b": [3]})
    assert one["environment"] == {
        "name": "development",
        "isolation": "enforced",
        "purge_development_data": False,
    }
    assert (two["admin"]["name"], two["config"]["company_name"]) == ("Outra", "Olá Ninguém")
    assert two["database"]["url"] == {"file": "url.txt"}


@pytest.mark.parametrize(
    ("default", "own", "merged"),
    [
        ("{host: x}", "{secret: {env: S}}", {"secret": {"env": "S"}}),
        ("{secret: {env: S}}", "{host: x}", {"host": "x"}),
        ("{secret: {env: S}}", "{secret: {file: s}}", {"secret": {"file": "s"}}),
        ("{host: x}", "{port: 1}", {"host": "x", "port": 1}),
        ("{host: x, secret: 1}", "{port: 1}", {"host": "x", "secret": 1, "port": 1}),
        ("text", "{secret: {env: S}}", {"secret": {"env": "S"}}),
    ],
)
def test_a_secret_setting_is_not_merged_with_a_map(default: str, own: str, merged: Any, load: Load) -> None:
    text = (
        f"version: 1\ndefaults: {{environment: development, config: {{settings: {{smtp: {default}}}}}}}\n"
        f"instances: [{{instance: a, config: {{settings: {{smtp: {own}}}}}}}]\n"
    )
    (manifest,) = load(text)
    assert manifest.document["config"]["settings"]["smtp"] == merged


def test_an_override_renames_no_instance(load: Load) -> None:
    fleet = "version: 1\ndefaults: {environment: development}\ninstances: [{instance: a}]\n"
    (problem,) = problems(lambda: load(fleet + "overrides: {a: {instance: b, suspend: true}}\n"))
    assert str(problem) == (
        "m.yaml:4:27: a: an override keeps the instance's name (rename it where it is declared, and here)"
    )
    (manifest,) = load(fleet + "overrides: {a: {instance: a, suspend: true}}\n")
    assert (manifest.instance, manifest.document["suspend"]) == ("a", True)


def test_a_fleet_tells_whether_a_value_is_its_own(load: Load) -> None:
    one, two = (manifest.origin for manifest in load(FLEET))
    assert (one.places["admin/email"], one.places["admin/name"]) == ((14, 20), (6, 17))
    assert two.places["admin/name"] == (19, 33)
    assert (one.origins["admin/name"], two.origins.get("admin/name")) == ("defaults", None)


CSV_FLEET = """\
version: 1
defaults:
  labels: {region: "{{ region }}"}
  config: {company_name: "{{ company }}", check_interval_minutes: "{{ minutes | int }}"}
instances: {csv: clients.csv}
"""
CSV = 'instance,company,region,minutes\na,"Auto Posto, BR-101",south,30\nb,{{ region }},north,60\n'


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_cells_line_break_is_the_same_however_the_file_is_checked_out(load: Load, end: str) -> None:
    content = HEADER + 'a,"x\nz",y,1\n'
    (one,) = load({"m.yaml": CSV_FLEET, "clients.csv": content.replace("\n", end)}, "m.yaml")
    assert one.document["config"]["company_name"] == "x\nz"


def test_a_csv_file_gives_an_instance_a_row(load: Load) -> None:
    one, two = load({"m.yaml": CSV_FLEET, "clients.csv": "\ufeff" + CSV}, "m.yaml")
    assert [one.instance, two.instance] == ["a", "b"]
    assert (one.document["config"]["company_name"], one.document["config"]["check_interval_minutes"]) == (
        "Auto Posto, BR-101",
        30,
    )
    assert one.labels == {"region": "south"}
    assert one.origin.origins["config/company_name"] == "variable company (clients.csv:2)"
    # Cells are values: text that looks like a template is just text.
    assert two.document["config"]["company_name"] == "{{ region }}"


HEADER = "instance,company,region,minutes\n"
CSV_REFUSED = {
    "no instance column": ("name\na\n", 1, 'the CSV file has no column "instance"'),
    "a column twice": ("instance,a,a\nx,1,2\n", 1, 'two columns are called "a"'),
    "columns without a name": ("instance,company,,\nx,1,,\n", 1, "column 3 of 4 has no name"),
    "a column that is no variable": ("instance,Big Name\nx,1\n", 1, '"Big Name" is not a valid variable name'),
    "a column that templates know": (
        "instance,labels\nx,1\n",
        1,
        '"labels" is a word of templates or the manifest\'s own',
    ),
    "columns by semicolons": ("instance;company\nx;y\n", 1, 'the CSV file has no column "instance"'),
    "what cannot be stored": (HEADER + "a,x\x1b[31m,y,1\n", 2, '"company" holds a character that cannot be stored'),
    "no rows": ("instance\n", 1, "the CSV file has a header and no rows"),
    "nothing": ("", 1, 'the CSV file has no column "instance"'),
    "a short row": (HEADER + "a,x,y,1\nb,x\n", 3, "the row has 2 cells, the header 4"),
    "a bad quote": (
        'instance,company\na,"x"y\n',
        2,
        "the row is not CSV, so neither it nor what follows is read",
    ),
    "a bad instance": (HEADER + "-a,x,y,1\n", 2, "is not a valid instance name"),
    "an instance twice": (
        HEADER + "a,x,y,1\n\na,x,y,1\n",
        4,
        'the instance "a" is declared twice, first at clients.csv:2',
    ),
}


@pytest.mark.parametrize("name", CSV_REFUSED)
def test_csv_is_refused_at_its_row(name: str, load: Load) -> None:
    content, line, message = CSV_REFUSED[name]
    (problem,) = problems(lambda: load({"m.yaml": CSV_FLEET, "clients.csv": content}, "m.yaml"))
    assert (problem.path, problem.line, problem.message) == ("clients.csv", line, message)


def test_a_row_with_too_few_cells_names_its_instance(load: Load) -> None:
    files = {"m.yaml": CSV_FLEET + "overrides: {b: {suspend: true}}\n", "clients.csv": HEADER + "a,x,y,1\nb,x\n"}
    (problem,) = problems(lambda: load(files, "m.yaml"))
    assert (problem.instance, problem.row) == ("b", "clients.csv:3")
    assert str(problem) == "clients.csv:3:1: b: the row has 2 cells, the header 4 (check its commas)"


def test_a_quote_that_is_not_closed_is_named_where_it_begins(load: Load) -> None:
    files = {
        "m.yaml": CSV_FLEET + "overrides: {c: {suspend: true}}\n",
        "clients.csv": HEADER + 'a,x,y,1\nb,"x,y,1\nc,x,y,1\n',
    }
    (problem,) = problems(lambda: load(files, "m.yaml"))
    assert (problem.line, problem.row) == (3, "clients.csv:3")


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("instance;company\na;x\n", "separate its columns by commas"),
        ("instance\tcompany\na\tx\n", "separate its columns by commas"),
        ("sep=;\ninstance;company\na;x\n", 'take the line "sep=…" out, and separate the columns by commas'),
        ("sep=,\ninstance,company\na,x\n", 'take the line "sep=…" out, and separate the columns by commas'),
        ("Instance,company\na,x\n", "write instance, not Instance"),
        ("name,company\na,x\n", "its first line names the columns"),
    ],
)
def test_columns_mangled_by_a_spreadsheet_are_named(content: str, hint: str, load: Load) -> None:
    (problem,) = problems(lambda: load({"m.yaml": CSV_FLEET, "clients.csv": content}, "m.yaml"))
    assert (problem.message, problem.hint) == ('the CSV file has no column "instance"', hint)


def test_a_long_cell_is_read_and_judged_by_its_key(load: Load) -> None:
    files = {"m.yaml": CSV_FLEET, "clients.csv": HEADER + f'a,"{"x" * 140_000}",y,1\n'}
    (problem,) = problems(lambda: load(files, "m.yaml"))
    place = (problem.path, problem.row, problem.message)
    assert place == ("m.yaml", "clients.csv:2", "must not be longer than 1,000 characters")


def test_text_that_a_variable_brings_in_says_how_it_becomes_a_number(load: Load) -> None:
    text = HEAD + 'config: {check_interval_minutes: "{{ n }}"}\nsuspend: "{{ off }}"\n'
    found = problems(lambda: load(text, "m.yaml", variables=["n=5", "off=true"]))
    assert [(problem.message, problem.value, problem.hint.partition(": ")[2]) for problem in found] == [
        ("must be a whole number, not text", '"5"', "{{ NAME | int }}"),
        ("must be true or false, not text", '"true"', "{{ NAME | bool }}"),
    ]


def test_a_version_in_quotes_is_shown_as_such(load: Load) -> None:
    (problem,) = problems(lambda: load('version: "1"\ninstance: a\n', "m.yaml"))
    assert str(problem).startswith(
        'm.yaml:1:10: a: must be 1: "1" (The version of the manifest format: the number 1, with'
    )


ON_ONE_DATABASE = "version: 1\ninstance: {}\ndatabase: {{url: 'postgresql://u@h/shared'}}\nenvironment: development\n"
SOUND = {
    "a broken row": ({"clients.csv": HEADER + "a,x,y,1\nb,x,y,none\nc,x,y,1\n"}, "ac"),
    "a row with a bad name": ({"clients.csv": HEADER + "a,x,y,1\nno name!,x,y,1\nc,x,y,1\n"}, "ac"),
    "a short row": ({"clients.csv": HEADER + "a,x,y,1\nb,x\nc,x,y,1\n"}, "ac"),
    "a quote that is not closed": (
        {
            "m.yaml": CSV_FLEET + "overrides: {c: {suspend: true}}\n",
            "clients.csv": HEADER + 'a,x,y,1\nb,"x,y,1\nc,x,y,1\n',
        },
        "a",
    ),
    "an override of nobody": ({"m.yaml": CSV_FLEET + "overrides: {zz: {suspend: true}}\n"}, "ab"),
    "an instance that is declared twice": ({"clients.csv": HEADER + "a,x,y,1\nb,x,y,1\na,x,y,1\n"}, "b"),
    "two on one database": ({name: ON_ONE_DATABASE.format(name[0]) for name in ("c.yaml", "d.yaml")}, "ab"),
    "a fleet with an unknown key": (
        {"m.yaml": CSV_FLEET + "unknown: 1\n", "z.yaml": "version: 1\ninstance: z\nenvironment: development\n"},
        "z",
    ),
    "a file that is no YAML": ({"z.yaml": "version: [1\n"}, "ab"),
    "a file with an unknown key": ({"z.yaml": "version: 1\ninstance: z\nqueuess: []\n"}, "ab"),
    "a file that is not there": ({"z.yaml": None}, "ab"),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_problem_excludes_only_its_own_instances(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    more, left = SOUND[name]
    files = {"m.yaml": CSV_FLEET, "clients.csv": HEADER + "a,x,y,1\nb,x,y,1\n", **more}
    for file, text in files.items():
        if text is not None:
            Path(file).write_text(text)
    paths = [file for file in files if file.endswith(".yaml")]
    found, broken = load_sound(paths, environ={})
    assert "".join(one.instance for one in found) == left
    with pytest.raises(ManifestError) as caught:
        load_manifests(paths, environ={})
    assert broken is not None
    assert broken.problems == caught.value.problems


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the CSV file cannot be read: no such file or directory"),
        (HEADER, "the CSV file has a header and no rows"),
        (HEADER + "a,x\n", "the row has 2 cells, the header 4"),
        (HEADER + "a,x,y,1\n", ""),
    ],
)
def test_an_empty_csv_file_hides_no_problem_of_the_defaults(content: str | None, said: str, load: Load) -> None:
    fleet = CSV_FLEET.replace("defaults:\n", "defaults:\n  queuess: []\n  suspend: 5\n").replace(
        "company_name:", "compani: x, company_name:"
    )
    files = {"m.yaml": fleet} if content is None else {"m.yaml": fleet, "clients.csv": content}
    found = [(one.line, one.message) for one in problems(lambda: load(files, "m.yaml"))]
    assert [one for one in found if "CSV" not in one[1] and "cells" not in one[1]] == [
        (3, 'unknown key "queuess"'),
        (4, "must be true or false, not a number"),
        (6, 'unknown key "compani"'),
    ]
    assert said == "" or said in [message for _, message in found]


def test_a_repeated_instance_is_reported_if_all_rows_are_wrong(load: Load) -> None:
    files = {"m.yaml": CSV_FLEET + "unknown: 1\n", "clients.csv": HEADER + "a,x,y,none\na,x,y,0\n"}
    found = [(one.path, one.line, one.message) for one in problems(lambda: load(files, "m.yaml"))]
    assert ("clients.csv", 3, 'the instance "a" is declared twice, first at clients.csv:2') in found
    assert len(found) >= 3


NULLS = """\
version: 1
defaults:
  labels: {tier: prod, env: live}
  vars: {a: 1, b: 2}
  config:
    company_name: X
    instance_key: {env: KEY, default: "embedded:"}
    settings: {locale: pt-BR, env: x, secret_one: {secret: {env: A}}}
  admin: {email: a@b.c, password: {env: P, generate: true}}
instances:
  - instance: a
    labels: {env: staging}
    config: {settings: {env: y, file: z, none: null, secret_one: {secret: {file: f}}}, instance_key: {file: key}}
    admin: {password: {generate: false}}
  - instance: b
    labels: {tier: null}
    config: {company_name: null, settings: {locale: null}}
    admin: null
"""


def test_maps_merge_as_the_schema_says(load: Load) -> None:
    first, second = load(NULLS)
    assert first.labels == {"tier": "prod", "env": "staging"}
    assert first.document["config"]["settings"] == {
        "locale": "pt-BR",
        "env": "y",
        "secret_one": {"secret": {"file": "f"}},
        "file": "z",
        "none": None,
    }
    assert first.document["config"]["instance_key"] == {"file": "key"}
    assert first.document["admin"]["password"] == {"env": "P", "generate": False}
    assert second.labels == {"env": "live"}
    assert "company_name" not in second.document["config"]
    assert second.document["config"]["settings"] == {"env": "x", "secret_one": {"secret": {"env": "A"}}}
    assert "admin" not in second.document


def test_overrides_have_the_last_word(load: Load) -> None:
    text = (
        "version: 1\ndefaults: {config: {company_name: '{{ company }}', check_interval_minutes: 5}}\n"
        "instances: {csv: c.csv}\n"
        "overrides:\n  b:\n    suspend: true\n    vars: {company: Over}\n    config: {check_interval_minutes: 7}\n"
    )
    files = {"m.yaml": text, "c.csv": "instance,company\na, A \nb,B\n"}
    found = [
        (
            one.document["config"]["company_name"],
            one.document["config"]["check_interval_minutes"],
            one.document["suspend"],
        )
        for one in load(files, "m.yaml")
    ]
    assert found == [("A", 5, False), ("Over", 7, True)]
    undone = "version: 1\ndefaults: {labels: {tier: prod}}\ninstances: [{instance: a, labels: null}]\n"
    (alone,) = load(undone + "overrides: {a: {labels: {env: test}, queues: null}}\n")
    assert (alone.labels, "queues" in alone.document) == ({"env": "test"}, False)
    files["m.yaml"] = text.replace("interval_minutes: 7", "interval_minutes: 0").replace("  b:", "  bb: {}\n  b:")
    assert [str(one) for one in problems(lambda: load(files, "m.yaml"))] == [
        'm.yaml:5:3: "bb" is not in this fleet (did you mean "b"?)',
        "m.yaml:9:38: b (c.csv:3): must be at least 1: 0",
    ]


def test_a_problem_of_many_rows_is_one_line(load: Load) -> None:
    text = (
        "version: 1\ndefaults: {admin: {email: '{{ email }}'}, config: {check_interval_minutes: '{{ n | int }}'}}\n"
        "instances: {csv: c.csv}\n"
    )
    rows = "".join(f"i{n},user{n}{'@' if n % 2 else ''}x.com,{n or ''}\n" for n in range(5))
    with pytest.raises(ManifestError) as caught:
        load({"m.yaml": text, "c.csv": "instance,email,n\n" + rows}, "m.yaml")
    assert caught.value.message.splitlines() == [
        (
            'm.yaml:2:27: is not a valid email, in 3 rows: i0 (c.csv:2) "user0x.com", i2 (c.csv:4) "user2x.com", '
            'i4 (c.csv:6) "user4x.com" (such as admin@empresa.com)'
        ),
        (
            'm.yaml:2:76: i0 (c.csv:2): the filter "int" got something that is not a whole number: "" '
            "(give it digits, or write int(60) for a default)"
        ),
    ]
    assert [(one.instance, one.row, one.value) for one in caught.value.problems] == [
        ("i0", "c.csv:2", '"user0x.com"'),
        ("i2", "c.csv:4", '"user2x.com"'),
        ("i4", "c.csv:6", '"user4x.com"'),
        ("i0", "c.csv:2", '""'),
    ]


def test_values_of_secret_places_are_not_repeated(load: Load) -> None:
    text = (
        "version: 1\ninstance: a\ndatabase: {url: 'x://hunter2'}\n"
        "config: {instance_key: hunter2, connect_api_url: 'ftp://hunter2', settings: {a: 1}, cname: hunter2}\n"
        "admin: {email: x, password: hunter2, pasword: hunter2}\n"
    )
    found = problems(lambda: load(text))
    assert len(found) == 7
    assert "hunter2" not in "".join(map(str, found))


@pytest.mark.parametrize("how", ["list", "csv"])
def test_a_fleet_that_is_too_large_is_not_expanded(how: str, load: Load) -> None:
    queues = "".join(f"  - {{name: 'q{n} {{{{ instance }}}}'}}\n" for n in range(1_000))
    names = [f"i{n}" for n in range(1_000)]
    instances = "{csv: c.csv}" if how == "csv" else "[" + ", ".join(f"{{instance: {name}}}" for name in names) + "]"
    files = {
        "m.yaml": f"version: 1\ndefaults:\n  queues:\n{queues}instances: {instances}\n",
        "c.csv": "instance\n" + "\n".join(names) + "\n",
    }
    (problem,) = problems(lambda: load(files, "m.yaml"))
    assert problem.message.startswith("the fleet expands to more than 2,000,000 values")


def test_all_problems_of_a_fleet_come_at_once(load: Load) -> None:
    text = "version: 1\nfoo: 1\ndefaults: {labls: {}}\ninstances: [{instance: a, quees: []}, {instance: -b}]\n"
    found = [(problem.line, problem.message) for problem in problems(lambda: load(text))]
    assert found == [
        (2, 'unknown key "foo"'),
        (3, 'unknown key "labls"'),
        (3, 'unknown key "labls"'),
        (4, 'unknown key "quees"'),
        (4, "is not a valid instance name"),
    ]


def test_an_empty_path_is_not_the_working_directory(load: Load) -> None:
    (problem,) = problems(lambda: load("version: 1\ninstance: a\n", ""))
    assert (problem.path, problem.message) == ('""', "an empty path names nothing")


def test_a_line_break_at_an_end_is_reported_at_its_place(load: Load) -> None:
    (problem,) = problems(lambda: load('version: 1\ninstance: "abc\\n"\n'))
    assert (problem.line, problem.column, problem.message) == (2, 11, "is not a valid instance name")


def test_a_csv_file_does_not_lead_out_of_the_folder(load: Load, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text(CSV)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "link.csv").symlink_to(tmp_path / "secret.csv")
    os.mkfifo(tmp_path / "d" / "pipe.csv")
    expected = {
        "../secret.csv": 'the CSV file has ".." in its name',
        str(tmp_path / "secret.csv"): "the CSV file has an absolute path",
        "link.csv": "the CSV file leads out of the folder",
        "pipe.csv": "the CSV file is not a regular file",
        "gone.csv": "the CSV file cannot be read: no such file or directory",
    }
    for name, message in expected.items():
        text = f"version: 1\ninstances: {{csv: {name}}}\n"
        (problem,) = problems(lambda text=text: load({"d/m.yaml": text}, "d/m.yaml"))  # type: ignore[misc]
        assert (problem.path, problem.line, problem.column, problem.message) == ("d/m.yaml", 2, 18, message)


def test_extra_variables_override_and_are_text(load: Load) -> None:
    text = HEAD + 'vars: {company: X, n: 1}\nconfig:\n  company_name: "{{ company }}"\n  settings: {n: "{{ n }}"}\n'
    files = {"m.yaml": text, "vars.yaml": "n: 7\n"}
    (manifest,) = load(files, "m.yaml", variables=["company={{ n }} = 3"])
    assert manifest.document["config"]["company_name"] == "{{ n }} = 3"
    assert manifest.origin.origins["config/company_name"] == "variable company (-e)"
    (manifest,) = load(files, "m.yaml", variables=["n=1", "@vars.yaml", '{"company": "Y"}'])
    assert manifest.document["config"]["settings"] == {"n": 7}
    assert manifest.document["config"]["company_name"] == "Y"
    (manifest,) = load(files, "m.yaml", variables=["@vars.yaml", "n=1"])
    assert manifest.document["config"]["settings"] == {"n": "1"}


@pytest.mark.parametrize("word", ["company", "=x", "a b=x", "instance=x", "{broken", '{"a-b": 1}'])
def test_an_extra_variable_that_does_not_fit_is_usage(word: str, load: Load) -> None:
    with pytest.raises(UsageError):
        load(HEAD, variables=[word])


def test_a_bad_file_of_variables_is_65_at_its_place(load: Load) -> None:
    (problem,) = problems(lambda: load({"m.yaml": HEAD, "v.yaml": "a: 1\nb: no\n"}, "m.yaml", variables=["@v.yaml"]))
    assert (problem.path, problem.line, problem.column) == ("v.yaml", 2, 4)
    (problem,) = problems(lambda: load(HEAD, variables=["@gone.yaml"]))
    assert problem.path == "gone.yaml"


def company_of(load: Load, variables: str) -> Any:
    (manifest,) = load(
        HEAD + f"environment: development\nvars: {variables}\nconfig: {{company_name: '{{{{ title }}}}'}}\n"
    )
    return manifest.document["config"]["company_name"]


@pytest.mark.parametrize(
    ("variables", "title"),
    [
        ('{title: "{{ company }}!", company: "{{ instance }} Ltd"}', "a Ltd!"),
        ('{title: "{{ vars.company }}!", company: "{{ instance }} Ltd"}', "a Ltd!"),
        ('{title: "{{ company | default(\'none\') }}", company: "{{ instance }} Ltd"}', "a Ltd"),
        ('{title: "{{ x[0].y }}", x: [{y: "{{ z }}"}], z: "{{ instance }}"}', "a"),
        ("{title: \"{{ title | default('none') }}\"}", "none"),
    ],
)
def test_variables_see_one_another_wherever_they_stand(variables: str, title: str, load: Load) -> None:
    assert company_of(load, variables) == title


def test_a_fleets_default_sees_what_an_instance_declares(load: Load) -> None:
    fleet = (
        'version: 1\ndefaults:\n  environment: development\n  vars: {title: "{{ company }} in {{ city }}"}\n'
        '  config: {company_name: "{{ title }}"}\ninstances:\n'
        '  - {instance: a, vars: {company: "{{ instance }} Ltd", city: Recife}}\n'
    )
    (manifest,) = load(fleet)
    assert manifest.document["config"]["company_name"] == "a Ltd in Recife"


def test_a_long_chain_of_variables_is_followed(load: Load) -> None:
    links = ", ".join(f'v{n}: "{{{{ v{n + 1} }}}}"' for n in range(3000))
    assert company_of(load, f'{{title: "{{{{ v0 }}}}", {links}, v3000: "{{{{ instance }}}}"}}') == "a"


@pytest.mark.parametrize(
    ("variables", "message", "hint"),
    [
        (
            '{title: "{{ other }}", other: "{{ title }}"}',
            '"title" is not defined',
            "its own template reads this one, so neither can come first",
        ),
        (
            '{title: "{{ environment }}"}',
            '"environment" is not defined',
            "vars, labels and environment come before it: put the value into vars, and use that",
        ),
        (
            '{title: "{{ labels.region }}"}',
            '"labels" is not defined',
            "vars, labels and environment come before it: put the value into vars, and use that",
        ),
        (
            '{title: "{{ titel }}"}',
            '"titel" is not defined',
            "set it in vars or with -e; for braces as text write {{ '{{' }}",
        ),
    ],
)
def test_a_name_that_is_known_elsewhere_says_so(variables: str, message: str, hint: str, load: Load) -> None:
    (problem,) = problems(lambda: company_of(load, variables))
    assert (problem.message, problem.hint) == (message, hint)


def test_variables_see_those_above_and_templates_the_instance(load: Load) -> None:
    (manifest,) = load(
        HEAD + 'labels: {region: "{{ r }}"}\nvars:\n  one: "{{ r }}1"\n  two: "{{ one }}2"\n  r: south\n'
        "environment: development\n"
        'config: {company_name: "{{ two }} {{ instance }} {{ labels.region }} {{ environment }} {{ vars.r }}"}\n'
    )
    assert manifest.document["config"]["company_name"] == "south12 a south development south"


def test_the_environment_comes_from_its_variable(load: Load) -> None:
    text = HEAD + "environment: {env: NODE_ENV, default: development}\n"
    names = [load(text, environ={"NODE_ENV": value})[0].document["environment"]["name"] for value in ("production", "")]
    assert names == ["production", "development"]
    (problem,) = problems(lambda: load(text, environ={"NODE_ENV": "hunter2"}))
    assert str(problem) == (
        "m.yaml:3:14: a: the variable NODE_ENV names no environment (set production or development)"
    )


def test_unset_environment_variables_are_named_all_at_once(load: Load) -> None:
    text = HEAD + "environment: {env: ONE}\n---\nversion: 1\ninstance: b\nenvironment: {name: {env: TWO}}\n"
    with pytest.raises(MissingSetting) as caught:
        load(text)
    assert caught.value.message == "environment variables are not set: a: environment: ONE; b: environment: TWO"


def test_billion_variables_are_refused(load: Load) -> None:
    lines = ["  v0: [x, x, x, x, x, x, x, x, x, x]"]
    lines.extend(f'  v{index}: "{{{{ [{", ".join([f"v{index - 1}"] * 10)}] }}}}"' for index in range(1, 12))
    found = problems(lambda: load(HEAD + "vars:\n" + "\n".join(lines) + "\n"))
    assert found[0].message == "the templates render to more than 1 MiB"


def test_equal_manifests_have_equal_digests_and_others_not(load: Load) -> None:
    one = load(HEAD + "queues: [{name: x}]\n")[0].origin.digest
    two = load("instance: a\nversion: 1\nqueues: {items: [{name: x, is_active: true}]}\n")[0].origin.digest
    three = load(HEAD + "queues: [{name: y}]\n")[0].origin.digest
    assert one == two != three


def test_rules_are_asked_beside_the_schema_of_one_document(load: Load) -> None:
    text = (
        HEAD
        + "database: {url: 'postgresql://user:hunter2@host/name'}\n"
        + "queues: [{name: Sales, colour: red}, {name: 5}, {nme: x}, {name: Sales}]\n"
        + "admin: {email: 7, renamed_from: a@b.c}\n"
        + "ignore: [{until: 2026-02-31, field: queue/x, reason: x}, 7]\n"
        + "config: {check_interval_minutes: 0, connect_api_url: 'http://example.com'}\n"
        + "plans: 5\n"
    )
    found = [(problem.line, problem.column, problem.message) for problem in problems(lambda: load(text))]
    assert found == [
        (3, 17, "the database URL holds a password"),
        (4, 24, 'unknown key "colour"'),
        (4, 45, "must be text, not a number"),
        (4, 49, '"name" is missing'),
        (4, 50, 'unknown key "nme"'),
        (4, 66, 'two queues have the name "Sales" (entries 1 and 4)'),
        (5, 16, "must be text, not a number"),
        (6, 18, "there is no such day"),
        (6, 58, "must be a mapping, not a number"),
        (7, 34, "must be at least 1"),
        (7, 54, "the Connect URL uses http:// to another machine; use https://"),
        (8, 8, "must be a mapping, not a number"),
    ]
