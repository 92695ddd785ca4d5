"""Hostile manifests through the command: refused with 65, each using under a second of CPU and under 100 MB."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.harness import COMMAND, ROOT, Fivrec

HEAD = "version: 1\ninstance: a\n"
ALIASES = "\n".join(
    f"  l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 10) if level else 'x, x'}]" for level in range(10)
)
MERGES = "\n".join(f"  m{level}: &m{level} {{<<: [{', '.join([f'*m{level - 1}'] * 10)}]}}" for level in range(1, 8))
HOSTILE: dict[str, bytes | str] = {
    "aliases": HEAD + "vars:\n" + ALIASES + "\n",
    "merges": HEAD + "vars:\n  m0: &m0 {a: 1}\n" + MERGES + "\n",
    "10,000 levels": HEAD + "vars: {a: " + "[" * 10_000 + "]" * 10_000 + "}\n",
    "10,000 levels of maps": HEAD + "vars: " + "{a: " * 10_000 + "1" + "}" * 10_000 + "\n",
    "over 8 MiB": HEAD + "vars: {a: '" + "x" * (8 * 1024 * 1024) + "'}\n",
    "8 MiB of brackets": HEAD + "vars: {a: " + "[" * (8 * 1024 * 1024 - 100),
    "1,000 instances of 1,000 templated queues": (
        "version: 1\ndefaults:\n  queues:\n"
        + "".join(f"  - {{name: 'q{n} {{{{ instance }}}}', description: '{{{{ instance }}}}'}}\n" for n in range(1_000))
        + "instances:\n"
        + "".join(f"- {{instance: i{n}}}\n" for n in range(1_000))
    ),
    "a large text repeated": HEAD + "vars: {a: '{{ \"x\" * 100000000 }}'}\n",
    "a power": HEAD + "vars: {a: '{{ 9 ** 999999999 }}'}\n",
    "a loop": HEAD + "vars: {a: '{% for x in range(999999999) %}x{% endfor %}'}\n",
    "an escape": HEAD + "vars: {a: '{{ \"\".__class__.__mro__[1].__subclasses__() }}'}\n",
    "a filter that reads": HEAD + "vars: {a: '{{ x|attr(\"__globals__\") }}'}\n",
    "a python tag": HEAD + "vars: {a: !!python/object/apply:os.system ['true']}\n",
    "10,000 variables that read one another": (
        HEAD + "vars:\n" + "".join(f"  v{n}: '{{{{ v{n + 1} }}}}'\n" for n in range(10_000))
    ),
    "300 names that are not defined beside 5,000 variables": (
        HEAD
        + "vars:\n"
        + "".join(f"  variable_{n}: {n}\n" for n in range(5_000))
        + "queues:\n"
        + "".join(f"  - {{name: '{{{{ variabl_{n} }}}}'}}\n" for n in range(300))
    ),
    "1,500 overrides of nobody beside 1,500 instances": (
        "version: 1\ninstances:\n"
        + "".join(f"  - {{instance: client-{n}}}\n" for n in range(1_500))
        + "overrides:\n"
        + "".join(f"  clent-{n}: {{suspend: true}}\n" for n in range(1_500))
    ),
    "10,000 parameters that PostgreSQL does not know": (
        HEAD + "database: {url: 'postgresql://h/x?" + "&".join(f"hostt{n}=1" for n in range(10_000)) + "'}\n"
    ),
    "binary": b"\x00\xff" * 1000,
    "UTF-16": (HEAD + "vars: {a: b}\n").encode("utf-16"),
}


@pytest.mark.parametrize("command", ["validate", "fmt", "diff"])
@pytest.mark.parametrize("given", ["link.yaml", "./folder/", "folder/within.yaml"])
def test_a_given_path_of_a_checkout_leads_nowhere_else(command: str, given: str, bare: Fivrec) -> None:
    outside = bare.folder / "outside"
    checkout = bare.folder / "checkout"
    for folder in (outside, checkout):
        folder.mkdir()
    (outside / "within.yaml").write_text("canary_user: x\nversion: 1\n")
    (checkout / "link.yaml").symlink_to(outside / "within.yaml")
    (checkout / "folder").symlink_to(outside)
    ended = replace(bare, folder=checkout).run(command, given)
    said = ended.stdout + ended.stderr
    assert (ended.code, "leads out of the working directory" in said, "canary" in said) == (65, True, False)


def test_a_given_link_is_followed_in_place_and_from_the_root(bare: Fivrec) -> None:
    (bare.folder / "releases").mkdir()
    bare.write((ROOT / "manifests" / "client.yaml").read_text(encoding="utf-8"), "releases/client.yaml")
    (bare.folder / "current").symlink_to("releases")
    (bare.folder / "within").mkdir()
    for given in ("current", str(bare.folder / "current" / "client.yaml")):
        assert bare.run("validate", given).code == 0
    (bare.folder / "within" / "up.yaml").symlink_to("../releases/client.yaml")
    assert replace(bare, folder=bare.folder / "within").run("validate", "../within/up.yaml").code == 0


@pytest.mark.parametrize("what", HOSTILE)
def test_it_is_refused_quickly_and_in_little_memory(
    what: str, bare: Fivrec, record_property: Callable[[str, object], None]
) -> None:
    content = HOSTILE[what]
    (bare.folder / "m.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    code, seconds, megabytes, traceback = validated(bare, "m.yaml")
    record_property(what, f"{seconds:.2f} s, {megabytes:.0f} MB")
    assert (code, traceback) == ("65", "False")
    bare.write(HEAD, "plain.yaml")
    usual = validated(bare, "plain.yaml")
    assert usual[0] == "0"
    assert seconds < 1 + usual[1]  # seconds of CPU more than this machine takes now for a plain manifest
    assert megabytes < 100


def validated(bare: Fivrec, name: str) -> tuple[str, float, float, str]:
    """Returns exit code, seconds of CPU, megabytes, and whether there was a traceback."""
    script = (
        "import os, resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], capture_output=True)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(done.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss, b'Traceback' in done.stderr)\n"
    )
    words = [sys.executable, "-c", script, *COMMAND, "validate", name]
    told = subprocess.check_output(words, cwd=bare.folder, env=bare.environment({}), text=True, timeout=60)
    code, seconds, kilobytes, traceback = told.split()
    return code, float(seconds), int(kilobytes) / (1024 if sys.platform == "linux" else 1024 * 1024), traceback


REFUSED_FILES = {
    "out by ..": "../secret",
    "absolute": "{folder}/../secret",
    "a link out": "link",
    "a FIFO": "fifo",
    "a device": "device",
    "a folder": "sub",
}


@pytest.mark.parametrize("how", REFUSED_FILES)
def test_a_file_reference_never_leaves_the_folder_nor_waits(how: str, bare: Fivrec) -> None:
    folder = bare.folder / "manifests"
    folder.mkdir()
    (bare.folder / "secret").write_text("postgresql://u:hunter2@h/d")
    (folder / "link").symlink_to("../secret")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "sub").mkdir()
    os.mkfifo(folder / "fifo")
    name = REFUSED_FILES[how].format(folder=folder)
    bare.write(f"version: 1\ninstance: a\ndatabase: {{url: {{file: '{name}'}}}}\n", "manifests/m.yaml")
    ended = bare.run("apply", "manifests/m.yaml", timeout=30)
    assert ended.code == 65, ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr
    assert "manifests/m.yaml:3:" in ended.stderr
