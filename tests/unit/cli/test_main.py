"""cli/main and cli/boundary: the group's help, and how wrong command lines end."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import jsonschema
import pytest
from click.testing import CliRunner

from reconciler.cli.boundary import GROUPS, report_unforeseen, wanted_output
from reconciler.cli.main import COMMANDS, MODULES, cli
from reconciler.cli.options import SECONDS
from tests.support.cli_process import ROOT, fivrec

SCHEMA = json.loads((Path(__file__).parents[3] / "schemas" / "report.v1.schema.json").read_text())


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    outcome = CliRunner().invoke(cli, [name, "--help"])
    assert outcome.exit_code == 0
    assert re.search(rf"\n  Examples?:(.|\n)*\bfivrec {name}\b", outcome.output), outcome.output


def test_every_module_with_a_command_is_promised_by_help() -> None:
    folder = Path(importlib.import_module("reconciler.cli").__path__[0])
    texts = {path.stem.replace("_", "-"): path.read_text() for path in folder.glob("*.py")}
    modules = {name for name, text in texts.items() if re.search(r"^(def )?command\b", text, re.MULTILINE)}
    renamed = {module.replace("_", "-"): name for name, module in MODULES.items()}
    assert {renamed.get(module, module) for module in modules} <= set(COMMANDS)


def test_help_lists_every_command_and_every_exit_code() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).output
    assert re.findall(r"^  ([a-z-]+)  ", shown.partition("Commands:")[2], re.MULTILINE) == list(COMMANDS)
    codes = re.findall(r"^    (\d+) ", shown.partition("Exit codes:")[2], re.MULTILINE)
    assert [int(code) for code in codes] == [0, 1, 2, 3, 4, 5, 6, 64, 65, 78, 130, 143]


HEAVY = {
    "asyncio", "bcrypt", "cryptography", "httpx", "jinja2", "jsonschema", "jsonschema_rs", "psycopg", "uvicorn", "xml",
    "yaml",
}  # fmt: skip


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["apply", "--help"], ["diff"]])
def test_help_and_usage_errors_import_nothing_heavy(words: list[str]) -> None:
    shown = fivrec(*words, python=("-X", "importtime")).stderr
    imported = set(re.findall(r"\|\s+([\w.]+)$", shown, re.MULTILINE))
    assert "reconciler.cli.main" in imported
    assert imported & HEAVY == set()


def test_without_a_command_the_help_is_shown_once_on_stderr() -> None:
    ended = fivrec()
    assert (ended.code, ended.stdout) == (64, "")
    assert ended.stderr.count("Usage:") == 1
    assert "Exit codes:" in ended.stderr
    assert "error" not in ended.stderr


@pytest.mark.parametrize(
    ("word", "near"), [("aply", "apply"), ("dif", "diff"), ("stat", "status"), ("production_test", "production-test")]
)
def test_an_unknown_command_suggests_the_nearest(word: str, near: str) -> None:
    ended = fivrec(word)
    assert (ended.code, ended.stdout) == (64, "")
    assert f'error [usage]: no such command "{word}"; did you mean "{near}"?' in ended.stderr


def test_an_unknown_command_like_no_other_gets_no_suggestion() -> None:
    ended = fivrec("xyzzy")
    assert ended.code == 64
    assert "did you mean" not in ended.stderr


MISTAKES = {
    "no path": ("diff",),
    "an unknown option": ("apply", "--frobnicate", "x.yaml"),
    "an option without its value": ("diff", "x.yaml", "--limit"),
    "no such form": ("diff", "-o", "yaml", "x.yaml"),
    "forks below one": ("apply", "-f", "0", "x.yaml"),
    "no number": ("apply", "-f", "many", "x.yaml"),
    "no time span": ("apply", "--timeout", "soon", "x.yaml"),
    "a time span without an end": ("logs", "--since", "inf", "x.yaml"),
    "a time span of longer than there are dates": ("history", "--since", "99999999999d", "x.yaml"),
    "a time span of no time": ("watch", "--every", "0.1ms", "x.yaml"),
    "a receiver in no variable": ("watch", "--notify-url", "env:", "x.yaml"),
    "a time span that no clock holds": ("logs", "--since", "infinity", "x.yaml"),
    "more lines than a database counts": ("logs", "-n", "99999999999999999999", "x.yaml"),
    "a kind that there is not": ("history", "--kind", "zzz", "x.yaml"),
    "an unknown command": ("xyzzy",),
}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30.0), ("500ms", 0.5), ("1.5 H", 5400.0), (".5", 0.5), ("7d", 604800.0), ("36500d", 3153600000.0)],
)
def test_a_time_span_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert SECONDS.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["0", "-5", "inf", "nan", "1e9", "\u0663s", "5 years", "36501d", "9" * 400])
def test_other_words_are_no_time_span(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is not a time span|at most 100 years, 36500d"):
        SECONDS.convert(text, None, None)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_usage_error_exits_64_and_says_why_on_stderr(mistake: str) -> None:
    ended = fivrec(*MISTAKES[mistake])
    assert (ended.code, ended.stdout) == (64, "")
    assert "error [usage]: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_fleet_apply_offers_no_limit_that_it_does_not_have() -> None:
    assert "--max-changed" not in fivrec("fleet", "apply", "--help").stdout
    ended = fivrec("fleet", "apply", "--max-changed", "1", "x.yaml")
    assert (ended.code, "No such option" in ended.stderr or "no such option" in ended.stderr) == (64, True)
    assert "--max-changed" in fivrec("apply", "--help").stdout


JSON_MISTAKES = [
    ("diff", "-o", "json"),
    ("diff", "-ojson"),
    ("diff", "-qo", "json"),
    ("diff", "-vvojson"),
    ("apply", "-CDo", "json"),
    ("diff", "--output", "json"),
    ("diff", "--output=json", "--frobnicate", "x.yaml"),
    ("apply", "x.yaml", "-o", "json", "--frobnicate"),
    ("aply", "-o", "json"),
    ("purge", "-yo", "json"),
    ("key", "rotate", "-o", "json"),
    ("fleet", "apply", "-o", "json"),
    ("fleet", "--frobnicate", "-o", "json"),
    ("--frobnicate", "-o", "json"),
]


@pytest.mark.parametrize("words", JSON_MISTAKES, ids=" ".join)
def test_with_json_a_usage_error_is_one_document_on_stdout(words: tuple[str, ...]) -> None:
    ended = fivrec(*words)
    document = json.loads(ended.stdout)
    jsonschema.validate(document, SCHEMA)
    command = " ".join(itertools.takewhile(lambda word: word[0] != "-" and "." not in word, words))
    assert (ended.code, document["command"], document["error"]["code"]) == (64, command, "usage")
    assert document["instances"] == []
    assert "error [usage]: " in ended.stderr


@pytest.mark.parametrize(
    ("words", "name"), [("diff", "FIVREC_DIFF_OUTPUT"), ("key rotate", "FIVREC_KEY_ROTATE_OUTPUT")]
)
def test_the_form_may_come_from_the_environment(words: str, name: str) -> None:
    ended = fivrec(*words.split(), env={name: "json"})
    assert json.loads(ended.stdout)["error"]["code"] == "usage"


def test_a_value_that_does_not_fit_names_its_variable() -> None:
    ended = fivrec("apply", "client.yaml", env={"FIVREC_APPLY_FORKS": "many"})
    assert (ended.code, "; it comes from the variable FIVREC_APPLY_FORKS" in ended.stderr) == (64, True)
    ended = fivrec("apply", "client.yaml", "--forks", "many")
    assert (ended.code, "variable" in ended.stderr) == (64, False)


def _options() -> Iterator[tuple[click.Context, click.Option]]:
    todo = [click.Context(cli, info_name="fivrec", auto_envvar_prefix="FIVREC")]
    while todo:
        ctx = todo.pop()
        if isinstance(ctx.command, click.Group):
            children = {name: ctx.command.get_command(ctx, name) for name in ctx.command.list_commands(ctx)}
            todo += [click.Context(child, ctx, name) for name, child in children.items() if child is not None]
        else:
            yield from ((ctx, param) for param in ctx.command.params if isinstance(param, click.Option))


def test_every_option_is_a_variable_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    found = 0
    for ctx, option in _options():
        for words, value, means in ((option.opts, "1", "1"), (option.secondary_opts, "true", "0")):
            for word in (word for word in words if word.startswith("--")):
                variable = f"{ctx.auto_envvar_prefix}_{word[2:].replace('-', '_').upper()}"
                with monkeypatch.context() as patched:
                    patched.setenv(variable, value)
                    assert option.resolve_envvar_value(ctx) == means, variable
                    found += 1
    assert found > 300


@pytest.mark.parametrize(
    ("words", "variable", "said"),
    [
        ("logs x.yaml", "FIVREC_LOGS_TYPE", "'foo' is not one of 'startup', 'scheduled', 'manual'"),
        ("watch x.yaml", "FIVREC_WATCH_CHECK_ONLY", "'foo' is not a valid boolean"),
    ],
)
def test_a_variable_of_an_options_own_name_is_named(words: str, variable: str, said: str) -> None:
    ended = fivrec(*words.split(), env={variable: "foo"})
    assert ended.code == 64
    assert said in ended.stderr
    assert f"; it comes from the variable {variable}\n" in ended.stderr


@pytest.mark.parametrize(
    ("words", "variable", "option"),
    [
        ("apply x.yaml", "FIVREC_APPLY_LIMIT", "'-l' / '--limit'"),
        ("watch x.yaml", "FIVREC_WATCH_CHECK_ONLY", "'--reconcile'"),
        ("diff x.yaml", "FIVREC_ALLOW_CONNECT", "'--allow-connect'"),
        ("fleet status", "FIVREC_QUEUE_URL", "'--queue-url' (env var: 'FIVREC_QUEUE_URL')"),
    ],
)
def test_an_empty_variable_is_a_value_that_is_missing(words: str, variable: str, option: str) -> None:
    ended = fivrec(*words.split(), env={variable: ""})
    assert (ended.code, ended.stdout) == (64, "")
    said = f"Invalid value for {option}: the variable {variable} is empty: unset it, or give it a value"
    assert ended.stderr.splitlines()[1] == f"error [usage]: {said}"


SERVICES = ("watch", "serve", "fleet schedule", "fleet worker")
"""They log events and print nothing to stdout."""
OWN_FORM = {"render": ["yaml", "json"]}


def test_what_reads_manifests_has_each_form_of_output() -> None:
    forms = {
        context.command_path.removeprefix("fivrec "): list(option.type.choices)
        for context, option in _options()
        if option.name == "output"
        and isinstance(option.type, click.Choice)
        and any(param.name == "paths" for param in context.command.params)
    }
    assert len(forms) > 20
    for name, found in forms.items():
        wanted = ["text"] if name in SERVICES else OWN_FORM.get(name, ["text", "json", "markdown"])
        assert found[:3] == wanted, name


def test_the_groups_are_those_that_have_commands() -> None:
    assert {name for name in COMMANDS if isinstance(command(name), click.Group)} == GROUPS


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that Linux has")
@pytest.mark.parametrize("words", ["sql", "--help", "validate -o json nothing.yaml", "diff -o json"])
def test_a_result_that_stdout_refuses_is_reported_and_exits_1(words: str) -> None:
    with Path("/dev/full").open("w") as full:
        ended = fivrec(*words.split(), stdout=full)
    assert ended.code == 1
    assert "error [output_failed]: the result can't be written to stdout: No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("words", "code"), [("--frobnicate", 64), ("apply nothing.yaml", 65), ("apply -o json nothing.yaml", 65)]
)
def test_a_log_without_a_reader_changes_no_exit_code(words: str, code: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert fivrec(*words.split(), stderr=writer).code == code
    finally:
        os.close(writer)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that Linux has")
def test_a_log_on_a_full_disk_changes_no_exit_code() -> None:
    with Path("/dev/full").open("w") as full:
        ended = fivrec("apply", "-o", "json", "nothing.yaml", stderr=full)
    assert (ended.code, json.loads(ended.stdout)["error"]["code"]) == (65, "manifest_invalid")


@pytest.mark.parametrize(
    ("output", "begins"),
    [("markdown", "<!-- fivrec diff -->\n### ❌ "), ("codequality", "[\n  {"), ("junit", "<?xml version=")],
)
def test_other_forms_hold_errors_of_the_run_too(output: str, begins: str) -> None:
    ended = fivrec("diff", "-o", output)
    assert ended.code == 64
    assert ended.stdout.startswith(begins)
    assert "Missing argument" in ended.stdout


@pytest.mark.parametrize(
    ("words", "output"),
    [
        ("diff x", ""),
        ("diff x -o json", "json"),
        ("diff -o json -o text x", "text"),
        ("diff -o", ""),
        ("diff -q x -o=json", "=json"),
        ("diff -l o json", ""),
        ("diff -l -o json", "json"),
        ("diff -- -o json", ""),
        ("diff --output-x json", ""),
        ("diff -eo=json x", ""),
    ],
)
def test_the_output_form_is_found_in_an_unparsable_command_line(words: str, output: str) -> None:
    assert wanted_output(words.split()) == output


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend to be outside GitHub Actions, in case these tests run there."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)


def unforeseen(argv: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    try:
        json.loads("hunter2")
    except ValueError as exc:
        report_unforeseen(ValueError("hunter2 in the text").with_traceback(exc.__traceback__), argv)
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_an_unforeseen_error_shows_type_and_place_not_text(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = unforeseen(["apply", "-v", "x.yaml"], capsys)
    assert out == ""
    assert re.search(r"error \[internal\]: .*: ValueError in \w+, line \d+\n", err)
    assert "hunter2" not in err
    assert "File" not in err


def test_at_vv_it_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    _, err = unforeseen(["apply", "-vv", "x.yaml"], capsys)
    assert "json/__init__.py" in err
    assert "hunter2 in the text" not in err


def test_with_json_it_is_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = unforeseen(["apply", "-o", "json", "x.yaml"], capsys)
    document = json.loads(out)
    jsonschema.validate(document, SCHEMA)
    assert document["error"]["code"] == "internal"
    assert "hunter2" not in out


HANGUP = """
import signal, sys
sys.argv = ["fivrec", *sys.argv[1:]]
import reconciler.__main__
print(signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL)
"""


@pytest.mark.parametrize(
    ("words", "outlived"),
    [
        (("watch", "m.yaml"), True),
        (("serve", "m.yaml"), True),
        (("connect", "serve"), True),
        (("fleet", "worker", "m.yaml"), True),
        (("fleet", "apply", "m.yaml"), False),
        (("apply", "m.yaml"), False),
    ],
)
def test_a_hangup_does_not_end_a_service_that_is_starting(words: tuple[str, ...], outlived: bool) -> None:
    ended = subprocess.run([sys.executable, "-c", HANGUP, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == f"{outlived}\n"


def test_an_option_without_a_value_names_the_commands_help() -> None:
    for words in (("diff", "m", "-l"), ("fleet", "apply", "m", "-l")):
        ended = fivrec(*words)
        command = " ".join(word for word in words[:2] if word != "m")
        assert (ended.code, ended.stderr.splitlines()[-1]) == (64, f'  see "fivrec {command} --help"')
