"""docs/keys.md: each of its procedures, run exactly as written."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path

from tests.support.harness import ROOT, Ended, Fivrec, manifest, rows

PAGE = ROOT / "docs" / "keys.md"


def procedures() -> tuple[str, str]:
    text = PAGE.read_text(encoding="utf-8")
    files, embedded = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return files, embedded


def run(fivrec: Fivrec, script: str) -> Ended:
    """Run the block in a shell that stops at the first failing step, with `fivrec` on its path."""
    programs = fivrec.folder / "bin"
    programs.mkdir(exist_ok=True)
    program = programs / "fivrec"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m reconciler "$@"\n')
    program.chmod(0o755)
    env = fivrec.environment({})
    env["PATH"] = f"{programs}:{env['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", script], cwd=fivrec.folder, env=env, capture_output=True, text=True, timeout=600, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def ends(fivrec: Fivrec, **env: str) -> list[int]:
    """Returns the exit codes of an apply and of the check of the audit log's signatures."""
    words = (("apply", "manifests/"), ("history", "manifests/", "--verify"))
    return [fivrec.run(*one, **env).code for one in words]


def test_rotating_from_file_to_file(fivrec: Fivrec) -> None:
    fivrec.write(manifest(), "manifests/client.yaml")
    old = fivrec.folder / "old.key"
    old.write_text(fivrec.env.pop("FIVREC_ENCRYPTION_KEY") + "\n")
    old.chmod(0o600)
    fivrec.env["FIVREC_ENCRYPTION_KEY_FILE"] = "old.key"
    assert ends(fivrec) == [0, 0]
    done = run(fivrec, procedures()[0])
    assert done.code == 0, done.stderr
    new = fivrec.folder / "new.key"
    assert new.stat().st_mode & 0o777 == 0o600
    key = new.read_text()
    old.unlink()
    assert ends(fivrec, FIVREC_ENCRYPTION_KEY_FILE="new.key") == [0, 0]
    assert run(fivrec, procedures()[0]).code != 0
    assert new.read_text() == key


def test_the_old_key_reads_nothing_after_a_rotation(fivrec: Fivrec) -> None:
    fivrec.write(manifest(), "manifests/client.yaml")
    (fivrec.folder / "old.key").write_text(fivrec.env.pop("FIVREC_ENCRYPTION_KEY") + "\n")
    fivrec.env["FIVREC_ENCRYPTION_KEY_FILE"] = "old.key"
    assert ends(fivrec) == [0, 0]
    assert run(fivrec, procedures()[0]).code == 0
    assert ends(fivrec, FIVREC_ENCRYPTION_KEY_FILE="old.key") == [78, 78]


def test_rotating_the_key_of_an_embedded_database(bare: Fivrec) -> None:
    text = (ROOT / "manifests" / "client.yaml").read_text(encoding="utf-8")
    bare.write(text, "manifests/client.yaml")
    assert ends(bare) == [0, 0]
    path: Path = bare.folder / ".fivrec" / "encryption.key"
    first = path.read_text()
    done = run(bare, procedures()[1])
    assert done.code == 0, done.stderr
    new, *rest = path.read_text().splitlines(keepends=True)
    assert ("".join(rest), new == first) == (first, False)
    path.write_text(new)
    assert ends(bare) == [0, 0]


def test_going_on_after_a_key_is_lost(fivrec: Fivrec, url: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (keep,) = re.findall(r"`(fivrec history .*?) > audit\.json`", text)
    (remove,) = re.findall(r"^ +(fivrec psql .*)$", text, re.MULTILINE)
    fivrec.write(manifest(), "manifests/client.yaml")
    assert ends(fivrec) == [0, 0]
    fivrec.env["FIVREC_ENCRYPTION_KEY"] = base64.urlsafe_b64encode(bytes(reversed(range(32)))).decode()
    assert ends(fivrec) == [78, 78]
    assert run(fivrec, keep).code == 0
    removed = run(fivrec, remove)
    assert removed.code == 0, removed.stderr
    assert ends(fivrec) == [0, 1]
    ((stored,),) = rows(url, "SELECT left(instance_key, 10) FROM instance_config")
    assert stored == "fivenc:v1:"


def test_a_lost_key_of_an_embedded_database_is_not_made_again(bare: Fivrec) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (remove,) = re.findall(r"^ +(fivrec psql .*)$", text, re.MULTILINE)
    (make,) = re.findall(r"`(\(umask 077; fivrec key generate > \.fivrec/encryption\.key\))`", text)
    bare.write((ROOT / "manifests" / "client.yaml").read_text(encoding="utf-8"), "manifests/client.yaml")
    assert ends(bare) == [0, 0]
    path: Path = bare.folder / ".fivrec" / "encryption.key"
    kept = path.read_text()
    path.unlink()
    for command, code in (("diff", 78), ("check", 0), ("apply", 78), ("drift", 78), ("history --verify", 78)):
        ended = bare.run(*command.split(), "manifests/", "-o", "json")
        assert (command, ended.code, path.exists()) == (command, code, False)
        if command in ("diff", "apply"):
            error = ended.one["error"]
            assert error["code"] == "key_retired"
            assert error["message"].endswith("and .fivrec/encryption.key is gone")
            assert error["hint"].startswith("put the file back")
    path.write_text(kept)
    assert ends(bare) == [0, 0]
    path.unlink()
    assert run(bare, remove).code == 0
    error = bare.run("apply", "manifests/", "-o", "json").one["error"]
    assert error["message"] == ".fivrec/encryption.key is gone, and no new key is made beside databases that exist"
    assert run(bare, make).code == 0
    assert ends(bare) == [0, 1]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_second_embedded_server_takes_the_key_that_is_there(bare: Fivrec) -> None:
    text = (ROOT / "manifests" / "client.yaml").read_text(encoding="utf-8")
    bare.write(text, "manifests/client.yaml")
    assert ends(bare) == [0, 0]
    other = text.replace('default: "embedded:"}', 'default: "embedded:.a/pg"}', 1).replace("client-abc-123", "client-b")
    bare.write(other, "manifests/other.yaml")
    assert ends(bare) == [0, 0]
    assert not (bare.folder / ".a" / "encryption.key").exists()
