"""`fivrec sql` and `fivrec key generate` print their SQL or key, and nothing else."""

from __future__ import annotations

from click.testing import CliRunner

from reconciler.cli import key, sql
from reconciler.database.schema import build_setup_script
from reconciler.support.crypto.keyring import KeyRing


def test_sql_prints_the_setup_script() -> None:
    result = CliRunner().invoke(sql.command, [])
    assert (result.exit_code, result.stdout, result.stderr) == (0, build_setup_script(), "")


def test_generate_prints_a_new_key_that_the_variable_takes() -> None:
    results = [CliRunner().invoke(key.command, ["generate"]) for _ in range(2)]
    assert [(item.exit_code, item.stderr) for item in results] == [(0, "")] * 2
    first, second = (item.stdout.removesuffix("\n") for item in results)
    assert first != second
    assert len(KeyRing.from_environ({"FIVREC_ENCRYPTION_KEY": first}).keys) == 1
