"""References: their values, what is refused, and that everything missing is named at once."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from reconciler.manifest.bounds import Bounds, check_bounds
from reconciler.manifest.loader import Manifest, load_manifests
from reconciler.manifest.references import Need, Resolution, asks_others, resolve, write_generated
from reconciler.model.errors import Busy, ManifestError, ManifestProblem, MissingSetting
from reconciler.model.kinds.development_rows import CONSENTED
from reconciler.model.secret import Secret
from reconciler.model.types import ConnectTarget, DatabaseSpec, Desired, EnvironmentSpec, Ignore

ALL: frozenset[Need] = frozenset({"database", "connect", "admin"})
ENVIRON = {
    "DATABASE_URL": "postgresql://u:hunter2@h/d",
    "FIV_APP_API_URL": "https://connect.example",
    "FIV_APP_API_KEY": "hunter2-key",
    "FIV_ADMIN_PASSWORD": "hunter2-password",
}
HEAD = "version: 1\ninstance: a\n"
ADMIN = HEAD + "admin: {email: a@b.c}\n"
EMBEDDED = """\
version: 1
instance: a
environment: development
database: {url: {env: DATABASE_URL, default: "embedded:"}}
config:
  connect_api_url: {env: FIV_APP_API_URL, default: "embedded:"}
  instance_key: {env: FIV_APP_API_KEY, default: "embedded:"}
admin: {email: a@b.c, password: {env: FIV_ADMIN_PASSWORD, generate: true}}
"""

Run = Callable[..., tuple[Desired, ...]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Loads a manifest of that text from d/m.yaml, and resolves it."""
    (tmp_path / "d").mkdir()
    monkeypatch.chdir(tmp_path)

    def resolve_text(text: str, environ: Mapping[str, str] = ENVIRON, needs: frozenset[Need] = ALL, **options: Any):  # type: ignore[no-untyped-def]
        Path("d/m.yaml").write_text(text, encoding="utf-8")
        manifests = load_manifests(["d/m.yaml"], environ=environ)
        return resolve(manifests, needs=needs, environ=environ, resolution=Resolution(**options))

    return resolve_text


def problems(call: Callable[[], object]) -> tuple[ManifestProblem, ...]:
    with pytest.raises(ManifestError) as caught:
        call()
    assert "hunter2" not in str(caught.value)
    return caught.value.problems


def missing(call: Callable[[], object]) -> list[str]:
    with pytest.raises(MissingSetting) as caught:
        call()
    assert "hunter2" not in str(caught.value) + caught.value.hint
    return caught.value.message.split("\n")


def password_of(desired: Desired) -> str:
    (admin,) = desired.managed["admin"].resources
    password = admin.fields["password"]
    assert isinstance(password, Secret)
    return password.reveal()


def test_a_whole_manifest_becomes_desired(run: Run) -> None:
    (desired,) = run(
        ADMIN + "labels: {r: s}\nplans: {source: connect, unmanaged: keep}\nusage: {report: true}\n"
        "expect: {status: active}\nignore: [{field: queue/x, until: 2026-12-31, reason: y}]\nsuspend: true\n"
        "queues: [{name: x}]\nenvironment: {name: production, isolation: enforced}\n"
    )
    assert desired.environment == EnvironmentSpec("production", "enforced")
    assert desired.database == DatabaseSpec(Secret("postgresql://u:hunter2@h/d"))
    assert desired.connect == ConnectTarget("https://connect.example", Secret("hunter2-key"))
    assert (desired.plans_from_connect, desired.plans_unmanaged) == (True, "keep")
    assert (desired.labels, desired.expect, desired.usage_report) == ({"r": "s"}, {"status": "active"}, True)
    assert (desired.ignore, desired.suspend) == ((Ignore("queue/x", "y", date(2026, 12, 31)),), True)
    assert sorted(desired.managed) == ["admin", "config", "environment", "queue"]
    assert password_of(desired) == "hunter2-password"
    (config,) = desired.managed["config"].resources
    assert config.fields == {
        "connect_api_url": "https://connect.example",
        "instance_key": Secret("hunter2-key"),
        "check_interval_minutes": 60,
    }
    assert desired.document["config"]["instance_key"] == {"env": "FIV_APP_API_KEY"}
    assert (desired.generated, desired.generated_new) == (None, False)
    assert "hunter2" not in repr(desired)


def test_with_nothing_set_all_is_embedded_with_a_new_password(run: Run) -> None:
    (desired,) = run(EMBEDDED, {})
    assert desired.database.url == Secret("embedded:")
    assert desired.connect == ConnectTarget("embedded:", None)
    assert (desired.generated, desired.generated_new) == (".fivrec/secrets/a-admin", True)
    assert len(password_of(desired)) == 24
    assert not Path(".fivrec").exists()
    assert password_of(run(EMBEDDED, {})[0]) != password_of(desired)


def test_a_generated_password_is_kept_private_and_reused(run: Run) -> None:
    (desired,) = run(EMBEDDED, {})
    write_generated(desired)
    path = Path(".fivrec/secrets/a-admin")
    assert path.read_text() == password_of(desired) + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["a-admin"]
    (again,) = run(EMBEDDED, {})
    assert (again.generated, again.generated_new) == (".fivrec/secrets/a-admin", False)
    assert password_of(again) == password_of(desired)
    write_generated(desired)  # as a second attempt of the same run does
    path.write_text("another run's password\n")
    with pytest.raises(Busy):
        write_generated(desired)
    assert path.read_text() == "another run's password\n"


def test_a_set_variable_wins_over_a_generated_password(run: Run) -> None:
    write_generated(run(EMBEDDED, {})[0])
    (desired,) = run(EMBEDDED, {"FIV_ADMIN_PASSWORD": "mine, and long"})
    assert (password_of(desired), desired.generated) == ("mine, and long", None)


def test_a_password_file_that_others_can_read_is_refused(run: Run) -> None:
    write_generated(run(EMBEDDED, {})[0])
    Path(".fivrec/secrets/a-admin").chmod(0o640)
    assert missing(lambda: run(EMBEDDED, {})) == ["a: admin.password: .fivrec/secrets/a-admin can be read by others"]


@pytest.mark.parametrize("make", [lambda path: path.write_text("\n"), lambda path: os.mkfifo(path, 0o600)])
def test_a_password_file_without_a_password_is_refused(make: Callable[[Path], object], run: Run) -> None:
    path = Path(".fivrec/secrets/a-admin")
    path.parent.mkdir(parents=True)
    make(path)
    path.chmod(0o600)
    assert missing(lambda: run(EMBEDDED, {})) == ["a: admin.password: .fivrec/secrets/a-admin holds no password"]


def test_all_that_is_missing_is_named_at_once(run: Run) -> None:
    environ = {"DATABASE_URL": "", "OTHER": "x"}
    assert missing(lambda: run(ADMIN + "---\n" + ADMIN.replace("instance: a", "instance: b"), environ)) == [
        f"{instance}: {key}: the variable {name} is not set"
        for instance in ("a", "b")
        for key, name in (
            ("database.url", "DATABASE_URL"),
            ("config.connect_api_url", "FIV_APP_API_URL"),
            ("config.instance_key", "FIV_APP_API_KEY"),
            ("admin.password", "FIV_ADMIN_PASSWORD"),
        )
    ]


def test_what_many_instances_lack_is_one_paragraph(run: Run) -> None:
    text = "---\n".join(
        f"version: 1\ninstance: i{n}\nconfig: {{instance_key: {{env: KEY_{n % 2}}}}}\n" for n in range(5)
    )
    environ = {"FIV_APP_API_URL": "https://c.example"}
    assert missing(lambda: run(text, environ, frozenset({"connect"}))) == [
        ("5 instances: config.instance_key: the variables KEY_0 (i0, i2, i4), KEY_1 (i1, i3) are not set")
    ]


def test_missing_files_of_many_instances_are_one_sentence(run: Run) -> None:
    text = "---\n".join(
        f"version: 1\ninstance: i{n}\nconfig: {{instance_key: {{{'env' if n > 2 else 'file'}: k{n}}}}}\n"
        for n in range(5)
    )
    environ = {"FIV_APP_API_URL": "https://c.example", "k4": "x"}
    assert missing(lambda: run(text, environ, frozenset({"connect"}))) == [
        (
            "4 instances: config.instance_key: the files k0 (i0), k1 (i1), k2 (i2) are not there, or empty; "
            "the variable k3 is not set (i3)"
        )
    ]


def test_unneeded_references_are_not_resolved(run: Run) -> None:
    (desired,) = run(ADMIN, {"DATABASE_URL": "postgresql:///d"}, frozenset({"database"}))
    assert (desired.database.url, desired.connect, desired.generated) == (Secret("postgresql:///d"), None, None)
    (config,) = desired.managed["config"].resources
    assert (config.fields["connect_api_url"], config.fields["instance_key"]) == (None, None)
    (admin,) = desired.managed["admin"].resources
    assert admin.fields["password"] is None
    (desired,) = run(ADMIN, {"FIV_APP_API_URL": "https://c.example", "FIV_APP_API_KEY": "k"}, frozenset({"connect"}))
    assert desired.connect == ConnectTarget("https://c.example", Secret("k"))


def test_production_never_falls_back_to_embedded(run: Run) -> None:
    production = EMBEDDED.replace("environment: development\n", "")
    words = 'is not set, and production does not use "embedded:"'
    assert missing(lambda: run(production, {})) == [
        f"a: database.url: the variable DATABASE_URL {words}",
        f"a: config.connect_api_url: the variable FIV_APP_API_URL {words}",
        f"a: config.instance_key: the variable FIV_APP_API_KEY {words}",
    ]
    (desired,) = run(production, {}, allow_embedded=True)
    assert desired.connect == ConnectTarget("embedded:", None)


def test_embedded_from_a_variable_is_refused_in_production(run: Run) -> None:
    expected = ['a: database.url: production does not use "embedded:"']
    assert missing(lambda: run(HEAD, {**ENVIRON, "DATABASE_URL": "embedded:data"})) == expected
    assert missing(lambda: run(HEAD + "database: {url: 'embedded:'}\n")) == expected


def test_the_emulators_key_goes_with_the_emulator_only(run: Run) -> None:
    environ = {"FIV_APP_API_URL": "https://connect.example"}
    assert missing(lambda: run(EMBEDDED, environ)) == [
        "a: config.instance_key: the variable FIV_APP_API_KEY is not set"
    ]
    (desired,) = run(EMBEDDED, {"FIV_APP_API_KEY": "mine"})
    assert desired.connect == ConnectTarget("embedded:", Secret("mine"))


MISFITS = {
    "no URL": ({"DATABASE_URL": "mysql://hunter2"}, 4, 17, "the database URL is not a postgresql:// URL"),
    "a parameter that libpq does not know": (
        {"DATABASE_URL": "postgresql://u:hunter2@h/d?hunter2=1"},
        4,
        17,
        "the database URL can't be read: it has a parameter that PostgreSQL does not know, or a stray character",
    ),
    "a % that is no escape": (
        {"DATABASE_URL": "postgresql://u:hunter2%ZZ@h/d"},
        4,
        17,
        "the database URL can't be read: it has a % that is no escape such as %40",
    ),
    "http": (
        {"FIV_APP_API_URL": "http://hunter2.example"},
        6,
        20,
        "the Connect URL uses http:// to another machine; use https://",
    ),
    "a long password": (
        {"FIV_ADMIN_PASSWORD": "é" * 37},
        8,
        33,
        "the password is longer than 72 bytes, which bcrypt can't hold",
    ),
    "a short password": ({"FIV_ADMIN_PASSWORD": "hunter2"}, 8, 33, "the password has fewer than 8 characters"),
    "a password with a line break": (
        {"FIV_ADMIN_PASSWORD": "hunter2-hunter2\n"},
        8,
        33,
        "the password holds a control character, such as a line break at its end",
    ),
    "a password with a blank": (
        {"FIV_ADMIN_PASSWORD": " hunter2-hunter2"},
        8,
        33,
        "the password begins or ends with white space or an invisible character",
    ),
    "a password behind a byte order mark": (
        {"FIV_ADMIN_PASSWORD": "\ufeffhunter2-hunter2"},
        8,
        33,
        "the password begins or ends with white space or an invisible character",
    ),
    "a password with a separator of lines": (
        {"FIV_ADMIN_PASSWORD": "hunter2\u2028hunter2"},
        8,
        33,
        "the password holds a control character, such as a line break at its end",
    ),
    "a password with a byte order mark": (
        {"FIV_ADMIN_PASSWORD": "\ufeffhunter2-hunter2"},
        8,
        33,
        "the password begins or ends with white space or an invisible character",
    ),
    "a password with a zero-width space": (
        {"FIV_ADMIN_PASSWORD": "hunter2-hunter2\u200b"},
        8,
        33,
        "the password begins or ends with white space or an invisible character",
    ),
    "an embedded server with a long name": (
        {"DATABASE_URL": "embedded:" + "hunter2" * 40},
        4,
        17,
        "the database URL names a place that can't be created",
    ),
    "an embedded server with a line break": (
        {"DATABASE_URL": "embedded:hunter2\nx"},
        4,
        17,
        "the database URL holds a control character",
    ),
    "an emulator that is a file": (
        {"FIV_APP_API_URL": "embedded:d/a-file"},
        6,
        20,
        "the Connect URL names a file, where a folder is wanted",
    ),
    "an emulator below a file": (
        {"FIV_APP_API_URL": "embedded:d/a-file/hunter2"},
        6,
        20,
        "the Connect URL leads through a file that is no folder",
    ),
    "a key with a blank": (
        {"FIV_APP_API_KEY": "hunter2\u00a0"},
        7,
        17,
        "the key has characters that no HTTP header can carry",
    ),
    "an embedded server elsewhere": (
        {"DATABASE_URL": "embedded:/hunter2"},
        4,
        17,
        "the database URL leads out of the working directory",
    ),
    "an emulator elsewhere": (
        {"FIV_APP_API_URL": "embedded:d/../../hunter2.json"},
        6,
        20,
        "the Connect URL leads out of the working directory",
    ),
    "a key with a line break": (
        {"FIV_APP_API_KEY": "hunter2\nX: y"},
        7,
        17,
        "the key has characters that no HTTP header can carry",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_value_that_does_not_fit_is_65_at_its_reference(name: str, run: Run) -> None:
    environ, *expected = MISFITS[name]
    Path("d").mkdir(exist_ok=True)
    Path("d/a-file").touch()
    (problem,) = problems(lambda: run(EMBEDDED, environ))
    assert [problem.path, problem.line, problem.column, problem.message] == ["d/m.yaml", *expected]


def test_a_password_of_72_bytes_fits(run: Run) -> None:
    assert password_of(run(EMBEDDED, {"FIV_ADMIN_PASSWORD": "é" * 36})[0]) == "é" * 36


def test_a_default_that_was_left_out_has_the_documents_place(run: Run) -> None:
    (problem,) = problems(lambda: run(HEAD, {**ENVIRON, "DATABASE_URL": "nonsense"}))
    assert (problem.line, problem.column) == (1, 1)


def test_two_instances_on_one_database_are_refused(run: Run) -> None:
    text = HEAD + "---\n" + HEAD.replace("instance: a", "instance: b")
    (problem,) = problems(lambda: run(text))
    assert problem.message == "its database is also that of a"
    text = text.replace("version: 1\ninstance: b", "version: 1\ninstance: b\ndatabase: {url: {env: OTHER}}")
    environ = {**ENVIRON, "OTHER": "user=x password='hunter2' host=H port=5432 dbname=d"}
    (problem,) = problems(lambda: run(text, environ))
    assert (problem.line, problem.message) == (6, "its database is also that of a")
    assert len(run(text, {**environ, "OTHER": "postgresql://u@h/other"})) == 2


def file_manifest(name: str) -> str:
    return HEAD + f"database: {{url: {{file: {name}}}}}\n"


def test_files_are_read_beside_the_manifest_or_from_secrets_dir(run: Run, tmp_path: Path) -> None:
    (tmp_path / "d" / "url.txt").write_text("postgresql://u:hunter2@h/d\n")
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / "url").write_text("postgresql://u:hunter2@h/e")
    assert run(file_manifest("url.txt"))[0].database.url == Secret("postgresql://u:hunter2@h/d")
    inside = file_manifest(str(tmp_path / "vault" / "url"))
    assert run(inside, secrets_dir=tmp_path / "vault")[0].database.url == Secret("postgresql://u:hunter2@h/e")
    for name, words in (("url", "not in the manifest's folder, but in --secrets-dir"), ("u", "not there, or empty")):
        (line,) = missing(lambda name=name: run(file_manifest(name), secrets_dir=tmp_path / "vault"))
        assert line == f"a: database.url: the file {name} is {words}"


def test_one_line_break_at_the_end_is_dropped_and_no_more(run: Run, tmp_path: Path) -> None:
    text = EMBEDDED.replace("{env: FIV_ADMIN_PASSWORD, generate: true}", "{file: p}")
    for content, expected in (
        (b"correct horse\n", "correct horse"),
        (b"x" * 8 + b"\r\n", "x" * 8),
        ("é".encode() * 8, "é" * 8),
    ):
        (tmp_path / "d" / "p").write_bytes(content)
        assert password_of(run(text, {})[0]) == expected
    (tmp_path / "d" / "p").write_bytes(b"correct horse\n\n")
    (problem,) = problems(lambda: run(text, {}))
    assert problem.message == "the password holds a control character, such as a line break at its end"


FILES_REFUSED = {
    "../secret": 'the file has ".." in its name',
    "sub/../../secret": 'the file has ".." in its name',
    "/etc/hostname": "the file has an absolute path",
    "link": "the file leads out of the folder",
    "linked/secret": "the file leads out of the folder",
    "pipe": "the file is not a regular file",
    "folder": "the file is not a regular file",
    "large": "the file is larger than 65,536 bytes",
}


@pytest.mark.parametrize("name", FILES_REFUSED)
def test_a_file_that_leads_elsewhere_is_refused(name: str, run: Run, tmp_path: Path) -> None:
    outside, inside = tmp_path, tmp_path / "d"
    (outside / "secret").write_text("hunter2")
    (inside / "sub").mkdir()
    (inside / "folder").mkdir()
    (inside / "link").symlink_to(outside / "secret")
    (inside / "linked").symlink_to(outside)
    os.mkfifo(inside / "pipe")
    (inside / "large").write_text("hunter2" * 10_000)
    (problem,) = problems(lambda: run(file_manifest(name)))
    assert (problem.line, problem.column, problem.message) == (3, 17, FILES_REFUSED[name])


def test_a_device_is_refused(run: Run) -> None:
    (problem,) = problems(lambda: run(file_manifest("/dev/zero"), secrets_dir=Path("/dev")))
    assert problem.message == "the file is not a regular file"


def test_a_link_inside_the_folder_is_followed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "d" / "..data").mkdir()
    (tmp_path / "d" / "..data" / "url").write_text("postgresql:///d")
    (tmp_path / "d" / "url").symlink_to("..data/url")
    assert run(file_manifest("url"))[0].database.url == Secret("postgresql:///d")


def test_a_byte_order_mark_is_no_part_of_a_secret(run: Run, tmp_path: Path) -> None:
    (tmp_path / "d" / "url").write_bytes(b"\xef\xbb\xbfpostgresql:///d\r\n")
    assert run(file_manifest("url"))[0].database.url == Secret("postgresql:///d")


def test_a_file_that_is_not_there_is_missing(run: Run) -> None:
    assert missing(lambda: run(file_manifest("gone"))) == ["a: database.url: the file gone is not there, or empty"]


def test_a_file_that_is_not_text_is_refused_without_its_content(run: Run, tmp_path: Path) -> None:
    (tmp_path / "d" / "x").write_bytes(b"hunter2\xff")
    with pytest.raises(MissingSetting) as caught:
        run(file_manifest("x"))
    assert caught.value.message == "a: database.url: the file is not UTF-8"


def command_manifest(*words: str) -> str:
    return HEAD + f"database: {{url: {{command: {list(words)}}}}}\n"


def test_a_command_runs_only_when_allowed_and_without_a_shell(run: Run, tmp_path: Path) -> None:
    text = command_manifest("printf", "postgresql:///%s\n", "$(id)")
    assert missing(lambda: run(text)) == ["a: database.url: the command printf may not be run"]
    assert run(text, allow_command=("printf",))[0].database.url == Secret("postgresql:///$(id)")
    for other in ("print*", "/usr/bin/printf", "prin", ""):
        assert len(missing(lambda: run(text, allow_command=(other,)))) == 1  # noqa: B023  called at once


COMMANDS_REFUSED = {
    ("false",): "the command false ended with code 1",
    ("fivrec-no-such-program",): "the command fivrec-no-such-program cannot be run",
    ("true",): "the command true prints nothing",
    ("yes", "hunter2"): "the command yes prints more than 65,536 bytes",
    ("sh", "-c", "echo hunter2 >&2; exit 3"): "the command sh ended with code 3",
}


@pytest.mark.parametrize("words", COMMANDS_REFUSED)
def test_a_command_that_gives_nothing_is_missing(
    words: tuple[str, ...], run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    found = missing(lambda: run(command_manifest(*words), allow_command=words[:1]))
    assert found == [f"a: database.url: {COMMANDS_REFUSED[words]}"]
    assert "hunter2" not in "".join(capfd.readouterr())


def test_a_command_is_asked_once_for_all_instances(run: Run, tmp_path: Path) -> None:
    script = f"echo x >> {tmp_path}/asked; echo https://connect.example"
    text = HEAD + f"config: {{connect_api_url: {{command: [sh, -c, '{script}']}}}}\n"
    run(
        text + "---\n" + text.replace("instance: a", "instance: b"), needs=frozenset({"connect"}), allow_command=("sh",)
    )
    assert (tmp_path / "asked").read_text() == "x\n"


PROVISIONED = HEAD + "database: {url: {env: DATABASE_URL}, provision_url: {env: PROVISION_URL}}\n"
PROVISION: frozenset[Need] = frozenset({"database", "provision"})


def test_a_provisioning_url_is_resolved_for_who_makes_databases(run: Run) -> None:
    environ = {**ENVIRON, "PROVISION_URL": "postgresql://p:hunter2@h/postgres"}
    (desired,) = run(PROVISIONED, environ, PROVISION)
    assert desired.database.provision_url == Secret("postgresql://p:hunter2@h/postgres")
    assert "hunter2" not in repr(desired)
    assert run(PROVISIONED, environ)[0].database.provision_url is None
    assert run(PROVISIONED, ENVIRON, PROVISION)[0].database.provision_url is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://p:hunter2@hunter2@h/postgres", "has an @ too many before its parameters"),
        ("postgresql://p@h/postgres?sslmode=on", 'has sslmode "on", which is not one of'),
        ("embedded:", "can't be embedded:"),
    ],
)
def test_a_provisioning_url_that_does_not_fit_is_65(url: str, said: str, run: Run) -> None:
    (problem,) = problems(lambda: run(PROVISIONED, {**ENVIRON, "PROVISION_URL": url}, PROVISION))
    assert problem.message.startswith(f"the provisioning URL {said}")
    (literal,) = problems(lambda: run(HEAD + f'database: {{provision_url: "{url}"}}\n', ENVIRON))
    assert literal.message.startswith(f"the provisioning URL {said}")


def test_a_provisioning_password_in_plain_text_is_65(run: Run) -> None:
    text = HEAD + "database: {provision_url: 'postgresql://p:hunter2@h/postgres'}\n"
    (problem,) = problems(lambda: run(text, ENVIRON))
    assert (problem.message, problem.hint) == (
        "the provisioning URL holds a password",
        "take it from a variable: {env: PROVISION_URL}",
    )


REAL = "postgresql://u:hunter2@db.example/d"


def test_an_environment_by_default_is_for_embedded_databases(run: Run) -> None:
    text = EMBEDDED.replace("environment: development", "environment: {env: NODE_ENV, default: development}")
    assert run(text, {})[0].environment == EnvironmentSpec("development")
    assert run(text, {"DATABASE_URL": REAL, "NODE_ENV": "development"})[0].environment == EnvironmentSpec("development")
    for default in ("development", "production"):
        changed = text.replace("default: development", f"default: {default}")
        environ = {"DATABASE_URL": REAL, "FIV_APP_API_URL": "https://c.example", "FIV_APP_API_KEY": "hunter2"}
        for needs in (ALL, frozenset[Need]({"connect"})):
            with pytest.raises(MissingSetting) as caught:
                run(changed, environ, needs)
            assert caught.value.code == "environment_unsaid"
            assert caught.value.message == (
                "a: environment: the variable NODE_ENV is not set, "
                f"and a default ({default}) counts only with an embedded database"
            )
    literal = HEAD + "environment: production\n"
    assert run(literal)[0].environment == EnvironmentSpec("production")


def test_an_environment_by_default_is_named_beside_a_missing_database(run: Run) -> None:
    text = HEAD + "environment: {env: NODE_ENV, default: production}\n"
    with pytest.raises(MissingSetting) as caught:
        run(text, {"FIV_APP_API_URL": "https://c.example", "FIV_APP_API_KEY": "hunter2"})
    assert caught.value.code == "environment_unsaid"
    assert caught.value.message == (
        "a: database.url: the variable DATABASE_URL is not set\na: environment: the variable NODE_ENV is not set, "
        "and a default (production) counts only with an embedded database"
    )


FORMS = ("environment: {file: e.txt%s}", "environment: {name: {file: e.txt%s}, isolation: constraints}")


def in_file(name: str) -> None:
    Path("d/e.txt").write_text(name)


@pytest.mark.parametrize("form", FORMS)
def test_an_environment_comes_from_a_file_and_templates_see_it(run: Run, form: str) -> None:
    text = EMBEDDED.replace("environment: development", form % "").replace(
        "config:", 'config:\n  company_name: "in {{ environment }}"'
    )
    for name in ("development", "production"):
        in_file(f"{name}\n")
        (desired,) = run(text, ENVIRON)
        company = desired.managed["setting"].resources[0].fields["value"]
        assert (desired.environment, company) == (EnvironmentSpec(name), f"in {name}")
        assert desired.origin.origins["environment/name"] == "the file e.txt"


@pytest.mark.parametrize("form", FORMS)
def test_an_environment_that_a_file_does_not_name_is_missing_or_wrong(run: Run, form: str) -> None:
    text = EMBEDDED.replace("environment: development", form % "")
    assert missing(lambda: run(text, {})) == ["a: environment: the file e.txt is not there, or empty"]
    in_file("hunter2")
    (problem,) = problems(lambda: run(text, {}))
    assert (problem.line, problem.message) == (3, "the file e.txt names no environment")
    Path("e.txt").write_text("production")
    (problem,) = problems(lambda: run(text.replace("e.txt", "../e.txt"), {}))
    assert problem.message == 'the file has ".." in its name'
    (problem,) = problems(lambda: run(text.replace("e.txt", "../e.txt"), {}, secrets_dir=Path()))
    assert (
        problem.hint == "put it into the manifest's folder, or give its absolute path, and its folder by --secrets-dir"
    )
    folder = folder_with("e2.txt", "production")
    assert run(text.replace("e.txt", str(folder / "e2.txt")), ENVIRON, secrets_dir=folder)


def folder_with(name: str, text: str) -> Path:
    folder = Path("secrets").absolute()
    folder.mkdir()
    (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_a_files_default_environment_is_for_embedded_databases(run: Run, form: str) -> None:
    text = EMBEDDED.replace("environment: development", form % ", default: development")
    assert run(text, {})[0].environment == EnvironmentSpec("development")
    with pytest.raises(MissingSetting) as caught:
        run(text, ENVIRON)
    assert caught.value.code == "environment_unsaid"
    assert caught.value.message == (
        "a: environment: the file e.txt is not there, or empty, "
        "and a default (development) counts only with an embedded database"
    )
    in_file("production")
    assert run(text, ENVIRON)[0].environment == EnvironmentSpec("production")


def test_a_command_names_an_environment_if_it_may_be_run(run: Run) -> None:
    text = EMBEDDED.replace("environment: development", "environment: {command: [echo, production]}")
    assert missing(lambda: run(text, {})) == ["a: environment: the command echo may not be run"]
    assert run(text, ENVIRON, allow_command=("echo",))[0].environment == EnvironmentSpec("production")
    manifest = load_manifests(["d/m.yaml"], environ={})[0]
    assert (asks_others(manifest), manifest.in_environment is not None) == (True, True)


def test_an_environment_out_of_bounds_is_not_asked_for(run: Run) -> None:
    text = HEAD + "environment: {vault: 'a/b#c', default: production}\n"
    (problem,) = problems(lambda: run(text, bounds=Bounds(secret=("vault:x/*",))))
    assert (problem.line, problem.message) == (3, "vault:a/b#c is not one that --allow-secret names")


def test_a_stored_manifest_finds_its_environment_too(run: Run) -> None:
    """A fleet's worker may have only the document; what templates rendered from a guessed environment is refused."""
    text = EMBEDDED.replace("environment: development", "environment: {file: e.txt}")
    in_file("production")

    def stored(text: str) -> EnvironmentSpec:
        Path("d/m.yaml").write_text(text)
        (loaded,) = load_manifests(["d/m.yaml"], environ={})
        manifest = Manifest(loaded.instance, loaded.labels, loaded.document, loaded.origin, loaded.folder)
        (desired,) = resolve((manifest,), needs=ALL, environ=ENVIRON, resolution=Resolution())
        assert desired.document.keys().isdisjoint({"environment_from", "environment_read"})
        return desired.environment

    assert stored(text) == EnvironmentSpec("production")
    with_template = text.replace("config:", 'config:\n  company_name: "in {{ environment }}"')
    (problem,) = problems(lambda: stored(with_template))
    assert problem.message.startswith("templates read the environment")
    loopback = text.replace('{env: FIV_APP_API_URL, default: "embedded:"}', "'http://127.0.0.1:1'")
    (problem,) = problems(lambda: stored(loopback))
    assert problem.message.startswith("the Connect URL")


def test_the_rules_of_an_environment_hold_once_it_is_known(run: Run) -> None:
    text = HEAD + "environment: {file: e.txt}\nconfig: {connect_api_url: 'http://127.0.0.1:1'}\n"
    in_file("development")
    assert run(text)[0].environment == EnvironmentSpec("development")
    in_file("production")
    (problem,) = problems(lambda: run(text))
    assert (problem.line, problem.message.startswith("the Connect URL")) == (4, True)


def test_other_words_for_an_environment_are_another_manifest(run: Run) -> None:
    digests = []
    for name in ("e.txt", "f.txt"):
        Path("d", name).write_text("production")
        (desired,) = run(EMBEDDED.replace("environment: development", f"environment: {{file: {name}}}"), ENVIRON)
        digests += [desired.origin.digest, load_manifests(["d/m.yaml"], environ={})[0].origin.digest]
    assert (digests[0] == digests[1], digests[2] == digests[3], digests[0] == digests[2]) == (True, True, False)


def test_a_fleet_merges_environments_of_any_form(run: Run) -> None:
    in_file("development")
    fleet = """\
version: 1
defaults:
  environment: {isolation: enforced, name: production}
instances:
  - {instance: a, environment: {file: e.txt}}
  - {instance: b, environment: {name: {file: e.txt}}, database: {url: "postgresql://h/b"}}
  - {instance: c, environment: {isolation: constraints}, database: {url: "postgresql://h/c"}}
"""
    found = [(item.environment.name, item.environment.isolation) for item in run(fleet)]
    assert found == [("development", "enforced"), ("development", "enforced"), ("production", "constraints")]


def test_an_instances_consent_stands_beside_a_fleets_short_environment(run: Run) -> None:
    fleet = """\
version: 1
defaults: {environment: {file: e.txt}}
instances:
  - {instance: a, environment: {purge_development_data: true}}
  - {instance: b, database: {url: "postgresql://h/b"}}
"""
    in_file("production")
    found = [(item.environment.name, item.managed.get("test_data") == CONSENTED) for item in run(fleet)]
    assert found == [("production", True), ("production", False)]
    in_file("development")
    assert [item.environment.name for item in run(fleet)] == ["development", "development"]


OUT_OF_BOUNDS = {
    "a variable": (
        "config: {instance_key: {env: AWS_KEY}}",
        {"env": ("FIV_*", "DATABASE_URL")},
        "the variable AWS_KEY",
    ),
    "a variable by default": ("", {"env": ("FIV_*",)}, "the variable DATABASE_URL"),
    "the environment's variable": (
        "environment: {env: SECRET, default: production}",
        {"env": ("FIV_*", "DATABASE_URL")},
        "the variable SECRET",
    ),
    "a literal database": ("database: {url: 'postgresql://u@evil/d'}", {"database": ("db",)}, "the database's host"),
    "one host of two": ("database: {url: 'postgresql://u@db,evil/d'}", {"database": ("db",)}, "the database's host"),
    "an address beside the host": (
        "database: {url: 'postgresql://u@db/d?hostaddr=10.0.0.1'}",
        {"database": ("db",)},
        "the database's host",
    ),
    "a database without a host": ("database: {url: 'postgresql:///d'}", {"database": ("db",)}, "the database's host"),
    "a database of a file": ("database: {url: {file: url}}", {"database": ("db",)}, "the database's host"),
    "an embedded database in a folder": (
        "environment: development\ndatabase: {url: 'embedded:d'}",
        {"database": ("db",)},
        "the database's host",
    ),
    "an embedded database beside this machine's own": (
        "environment: development\ndatabase: {url: 'embedded:d'}",
        {"database": ("localhost",)},
        "the database's host",
    ),
    "a secret setting's variable": (
        "config: {settings: {smtp: {secret: {env: AWS_KEY}}}}",
        {"env": ("FIV_*", "DATABASE_URL")},
        "the variable AWS_KEY",
    ),
    "a literal Connect": ("config: {connect_api_url: 'https://evil'}", {"connect": ("panel",)}, "Connect's host"),
    "a Connect by default": (
        "config: {connect_api_url: {env: UNSET, default: 'https://evil'}}",
        {"connect": ("panel",)},
        "Connect's host",
    ),
    "a Connect that looks like another": (
        "config: {connect_api_url: 'https://panel.evil.example'}",
        {"connect": ("panel",)},
        "Connect's host",
    ),
    "a Connect of a variable": ("", {"connect": ("panel",)}, "Connect's host"),
}


@pytest.mark.parametrize("name", OUT_OF_BOUNDS)
def test_references_out_of_bounds_exit_with_65(name: str, run: Run) -> None:
    text, bounds, words = OUT_OF_BOUNDS[name]
    Path("d/url").write_text("postgresql://u:hunter2@evil/d")
    found = problems(lambda: run(f"{HEAD}{text}\n", bounds=Bounds(**bounds)))
    option = next(iter(bounds))
    assert [one.message for one in found] == [f"{words} is not one that --allow-{option} names"]
    assert run(f"{HEAD}{text}\n", {**ENVIRON, "AWS_KEY": "k", "SECRET": "production", "UNSET": "https://c.example"})


def test_a_default_out_of_bounds_is_found_offline(run: Run) -> None:
    Path("d/m.yaml").write_text(f"{HEAD}config: {{connect_api_url: {{env: UNSET, default: 'https://evil'}}}}\n")
    (problem,) = check_bounds(load_manifests(["d/m.yaml"], environ={}), Bounds(connect=("panel",)))
    assert problem.message == "Connect's host is not one that --allow-connect names"


def test_references_within_bounds_are_accepted(run: Run) -> None:
    bounds = Bounds(("FIV_*", "DATABASE_UR?"), ("Connect.Example.",), ("H", "127.0.0.1"))
    (desired,) = run(ADMIN, bounds=bounds)
    assert desired.connect == ConnectTarget("https://connect.example", Secret("hunter2-key"))
    assert run(EMBEDDED, {}, bounds=Bounds(connect=("x",), database=("x",)))[0].database.url == Secret("embedded:")


def test_the_provisioning_urls_own_database_is_no_instances(run: Run) -> None:
    environ = {"DATABASE_URL": "postgresql://u:hunter2@h/defaultdb", "PROVISION_URL": "host=H dbname=defaultdb user=p"}
    (problem,) = problems(lambda: run(PROVISIONED, {**ENVIRON, **environ}, PROVISION))
    assert problem.message == "the database URL leads to the database that the provisioning URL names"


def test_a_missing_secret_whose_name_has_a_dot_is_placed_at_its_line(run: Run) -> None:
    text = EMBEDDED.replace("config:\n", "config:\n  settings:\n    a: 1\n    smtp.password: {secret: {env: GONE}}\n")
    with pytest.raises(MissingSetting) as caught:
        run(text, {})
    (place,) = caught.value.places
    assert (place.line, "config.settings.smtp.password" in place.message) == (8, True)
