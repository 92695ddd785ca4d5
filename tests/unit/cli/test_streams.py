"""stdout and stderr: no traceback and nothing but text, whatever the locale, the disk or the reader does."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.cli.reading_commands import write_table
from reconciler.cli.render.markdown import fenced
from reconciler.cli.streams import HarmlessWrite, json_text, shows_bars
from tests.support.cli_process import ROOT

MANIFEST = """\
version: 1
instance: streams-1
database: {url: {env: D}}
environment: development
config: {connect_api_url: {env: U}, instance_key: {env: K}}
"""
ENCODINGS = ("latin-1", "ascii", "utf-8:strict", "cp1252")


def run(*words: str | bytes, cwd: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(
        [sys.executable, "-m", "reconciler", *words],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Folders of manifests whose names are not valid text, or not Latin-1."""
    for name in (b"n\xc3\xa3o\xff.yaml", "→😀.yaml".encode()):
        folder = os.fsencode(tmp_path / "odd")
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103  names of bytes
        with open(os.path.join(folder, name), "wb") as file:  # noqa: PTH118, PTH123  names of bytes
            file.write(MANIFEST.replace("streams-1", f"streams-{len(name)}").encode())
    return tmp_path


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_whatever_the_locale_a_pipe_gets_utf8(encoding: str, odd: Path) -> None:
    done = run("validate", "odd", cwd=odd, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == "odd/não\\udcff.yaml: ok (1 instance)\nodd/→😀.yaml: ok (1 instance)\n"


def test_no_pipeline_finds_a_command_in_what_is_printed(tmp_path: Path) -> None:
    evil = ("##[error]x", "a ##vso[task.setvariable variable=x]y", "##VSO[z", "##teamcity[publishArtifacts '.']")
    queues = "".join(f"  - {{name: {json.dumps(name)}, colour: 1}}\n" for name in evil)
    (tmp_path / "##[group]m.yaml").write_text(MANIFEST + f"queues:\n{queues}labels: {{x: '##[x]'}}\n##[y]: 1\n")
    (tmp_path / "e.yaml").write_text(MANIFEST + "labels: {'##[x]': '##[x]'}\n")
    for words in (
        ["##[group]m.yaml"],
        ["##[group]m.yaml", "-o", "json"],
        ["e.yaml", "-e", "##[x]"],
        ["-l", "##[x]", "e.yaml"],
    ):
        done = run("validate", *words, cwd=tmp_path)
        printed = (done.stdout + done.stderr).decode().lower()
        assert done.returncode in (64, 65)
        assert "##[" not in printed
        assert "##vso[" not in printed
        assert "##teamcity[" not in printed
    document = json.loads(run("validate", "##[group]m.yaml", "-o", "json", cwd=tmp_path).stdout)
    assert {problem["path"] for problem in document["problems"]} == {"##[group]m.yaml"}


def test_no_line_that_is_printed_begins_with_a_command(tmp_path: Path) -> None:
    (tmp_path / "::error::.yaml").write_text(MANIFEST)
    assert run("validate", "::error::.yaml", cwd=tmp_path).stdout == b"\\u003a:error::.yaml: ok (1 instance)\n"
    written = io.StringIO()
    write = HarmlessWrite(written)
    evil = (
        " ::set-output name=x::y\n+ ::error::z\n\u2003::Add-Mask::z\nx\r::stop-commands::t\n::text AS x\n a::error::\n"
    )
    own = "::error title=fivrec apply%3A a failed,file=m.yaml,line=1::[guard] 1 queue row would be removed\n"
    assert write(evil + own) == len(evil + own)
    harmless = "\\u003a:"
    shown = (
        f" {harmless}set-output name=x::y\n+ ::error::z\n\u2003{harmless}Add-Mask::z\nx\r{harmless}stop-commands::t\n"
    )
    assert written.getvalue() == f"{shown}::text AS x\n a::error::\n{own}"


def test_formatted_manifests_are_printed_unchanged() -> None:
    text = MANIFEST + "labels: {x: 'a ##[x]'}  # ##[x]\n"
    done = subprocess.run(
        [sys.executable, "-m", "reconciler", "fmt", "-"],
        input=text.encode(),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    assert b"labels: {x: 'a ##[x]'}  # ##[x]\n" in done.stdout


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_is_json_whatever_names_files_have(encoding: str, odd: Path) -> None:
    done = run("validate", "odd", "-o", "json", cwd=odd, PYTHONIOENCODING=encoding)
    paths = [item["path"] for item in json.loads(done.stdout.decode())["instances"]]
    assert (done.returncode, paths) == (0, ["odd/não\udcff.yaml", "odd/→😀.yaml"])


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_stream_is_no_traceback_and_loses_no_result(closed: str, tmp_path: Path) -> None:
    """Like a full disk, a closed stdout takes no result."""
    (tmp_path / "m.yaml").write_text(MANIFEST)
    (tmp_path / "bad.yaml").write_text(MANIFEST + "queus: []\n")
    command = f'"{sys.executable}" -m reconciler validate'
    lost = int("1>&-" in closed)
    codes = {"m.yaml": lost, "--help": lost, "bad.yaml": lost or 65, "-": lost or 65, "--frobnicate": 64}
    for name, code in codes.items():
        done = subprocess.run(
            ["/bin/sh", "-c", f"{command} {name} {closed}"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (name, done.returncode, b"Traceback" in done.stderr) == (name, code, False)
        if code == 1 and "2>&-" not in closed:
            assert b"error [output_failed]: the result can't be written to stdout: Bad file descriptor" in done.stderr


def test_json_shows_all_that_it_holds() -> None:
    value = ["pay\u202eoff", "Sa\u200bles", "\x9b31m", "\U000e0041", "\ufeffx", "família 😀"]
    text = json_text(value, None)
    assert text == r'["pay\u202eoff", "Sa\u200bles", "\u009b31m", "\udb40\udc41", "\ufeffx", "família 😀"]'
    assert json.loads(text) == value


def test_a_table_shows_what_its_cells_hold(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(("name",), (("pay\u202eoff\x9b31m\nx",),))
    assert capsys.readouterr().out == "NAME\npay\\u202eoff\\x9b31m x\n"


@pytest.mark.parametrize("markdown", [False, True])
def test_one_long_text_makes_no_table_wide(markdown: bool, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(("error", "at"), (("x" * 1_000_000, "now"), ("short", "now")), markdown=markdown)
    assert max(map(len, capsys.readouterr().out.splitlines())) < 1100


def test_a_markdown_table_takes_no_command_from_its_cells(capsys: pytest.CaptureFixture[str]) -> None:
    cells = (
        "a|b",
        "`x`\n| y",
        "<img src=x>",
        "@all #1 !2",
        "[x](http://x)",
        r"\| \u202e",
        "pay\u202eoff",
        "2 as declared: 10:00",
    )
    write_table(("text", "x"), [(cell, "") for cell in cells], markdown=True)
    table = capsys.readouterr().out.splitlines()
    assert table[:2] == ["| text | x |", "| --- | --- |"]
    assert table[2:] == [
        "| <code>a&#124;b</code> |  |",
        "| <code>&#96;x&#96; &#124; y</code> |  |",
        "| <code>&#60;img src&#61;x&#62;</code> |  |",
        "| <code>&#64;all &#35;1 &#33;2</code> |  |",
        "| <code>&#91;x&#93;&#40;http&#58;&#47;&#47;x&#41;</code> |  |",
        "| <code>&#92;&#124; &#92;u202e</code> |  |",
        "| <code>pay&#92;u202eoff</code> |  |",
        "| 2 as declared: 10:00 |  |",
    ]


def test_no_line_of_a_text_ends_its_fence() -> None:
    assert fenced("+a\n ````\n-\x1b[31m\n", "diff") == "`````diff\n+a\n ````\n-\\x1b[31m\n`````\n"


@pytest.mark.parametrize(
    ("variable", "words", "escapes"),
    [
        (("TERM", "xterm"), (), True),
        (("TERM", "dumb"), (), False),
        (("TERM", "dumb"), ("--color",), True),
        (("NO_COLOR", "1"), (), False),
        (("NO_COLOR", "1"), ("--color",), True),
        (("TERM", "xterm"), ("--no-color",), False),
    ],
)
def test_an_error_has_colours_only_if_they_are_wanted(
    variable: tuple[str, str], words: tuple[str, ...], escapes: bool, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "reconciler", "diff", "nothing", *words]
    ours, theirs = pty.openpty()
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), variable[0]: variable[1]}
    subprocess.run(command, cwd=tmp_path, env=environ, stdout=theirs, stderr=theirs, timeout=60, check=False)
    os.close(theirs)
    assert (b"\x1b" in os.read(ours, 4096)) is escapes
    os.close(ours)


@pytest.mark.parametrize(("term", "bars"), [("xterm", True), ("dumb", False)])
def test_a_dumb_terminal_gets_no_bars(term: str, bars: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert shows_bars() is bars
