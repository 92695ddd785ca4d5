"""The seed's claims about environments, under its headings: Separação de Ambientes, Ambiente Isolado, Isolamento."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from reconciler.database.accounts import read_account
from reconciler.database.statements import statements
from reconciler.database.store import Scope
from reconciler.database.usage_outbox import read_usage_counts
from reconciler.engine.purge import count_development_rows, with_purge
from reconciler.engine.reconcile import preview, reconcile
from reconciler.engine.setup import Setup, opening_lines
from reconciler.manifest.loader import load_manifests
from reconciler.model.errors import ManifestError
from reconciler.model.secret import Secret
from reconciler.support.crypto.keyring import KeyRing
from reconciler.support.package_files import resource_path
from tests.support.connections import Connect
from tests.support.engine import INSTANCE, desired_of, document, run_of
from tests.support.isolated import SHARED, Isolated, apply, environment, fill

MANIFEST = "version: 1\ninstance: a\nenvironment: {name: {env: NODE_ENV, default: development}}\n"


def rows_of(url: str, name: str) -> dict[str, list[tuple]]:
    with psycopg.connect(url) as conn:
        return {
            table: conn.execute(f"SELECT * FROM {table} WHERE environment = %s ORDER BY id", (name,)).fetchall()
            for table in SHARED
        }


def seen_by(url: str, name: str) -> dict[str, set[str]]:
    """Returns the environments of all rows that a login sees with unfiltered statements."""
    with psycopg.connect(url) as conn:
        conn.execute("SELECT set_config('fiv.environment', %s, true)", (name,))
        return {
            table: {row[0] for row in conn.execute(f"SELECT environment FROM {table}").fetchall()} for table in SHARED
        }


# Separação de Ambientes


async def test_development_dados_de_teste_production_dados_reais(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await apply(database, keys, tmp_path)
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        for table in SHARED:
            with pytest.raises(errors.CheckViolation):
                conn.execute(
                    f"INSERT INTO {table} SELECT * FROM jsonb_populate_record(NULL::{table}, %s)",
                    (Jsonb({**dict.fromkeys(("id", "name", "email", "password", "role", "status", "sender"), "x"),
                            "environment": "homologação"}),),
                )  # fmt: skip


def test_filtragem_automatica_cada_consulta_por_ambiente_atual() -> None:
    shared = re.compile(rf"\b(?:FROM|JOIN|UPDATE|INTO)\s+(?:\{{app\}}\.)?({'|'.join(SHARED)})\b")
    own = r"current_setting\('fiv\.environment'\)"  # set at the beginning of every transaction
    filters = re.compile(rf"%\(environment\)s|{own}|\benvironment'?(?:::text)? = 'development'")
    meant_for_both = {"breaking_rows"}
    for path in sorted(resource_path("sql").glob("*/*.sql")):
        if path.parent.name == "migrations":
            continue
        for name, text in statements(f"sql/{path.parent.name}/{path.name}").items():
            if name not in meant_for_both:
                assert len(filters.findall(text)) >= len(shared.findall(text)), f"{path.name}: {name}"
    for source in sorted((Path(__file__).parents[3] / "reconciler").rglob("*.py")):
        found = re.findall(rf"(?:SELECT|INSERT|UPDATE|DELETE)\b[^\n]*{shared.pattern}", source.read_text())
        assert found == [], f"{source.name} has statements of its own"


async def test_isolamento_completo_dados_de_teste_nunca_em_producao(
    database: Secret, keys: KeyRing, tmp_path: Path, open_connection: Connect
) -> None:
    await apply(database, keys, tmp_path)
    conn, scope = await open_connection(database), Scope(INSTANCE, "production", "admin@empresa.com")
    before = await read_usage_counts(conn, scope)
    planned = await preview(desired_of(document(plans=None), database, connect=None), run_of(keys, tmp_path))
    fill(database.reveal(), "development")
    assert await read_usage_counts(conn, scope) == before
    assert await read_account(conn, scope, "u@development.test") is None
    again = await preview(desired_of(document(plans=None), database, connect=None), run_of(keys, tmp_path))
    assert (again.changes, again.outcome) == (planned.changes, "in_sync")


async def test_limpeza_de_dados_endpoint_para_limpar_dados_de_teste(
    database: Secret, keys: KeyRing, tmp_path: Path
) -> None:
    await apply(database, keys, tmp_path)
    fill(database.reveal(), "development", "production")
    before = rows_of(database.reveal(), "production")
    item = with_purge([desired_of(document(), database)], "development")
    run = run_of(keys, tmp_path, check_only=True)
    shown = await count_development_rows(item, run)
    assert (await reconcile(item, replace(run, accept=frozenset({shown.digest or ""})))).error is None
    assert not any(rows_of(database.reveal(), "development").values())
    assert rows_of(database.reveal(), "production") == before


@pytest.mark.parametrize(
    ("value", "name"), [("production", "production"), ("development", "development"), ("", "development")]
)
def test_configuracao_dinamica_ambiente_da_variavel_node_env(value: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MANIFEST)
    (loaded,) = load_manifests((str(tmp_path / "a.yaml"),), variables=(), environ={"NODE_ENV": value})
    assert loaded.document["environment"]["name"] == (value or "development")
    with pytest.raises(ManifestError, match="NODE_ENV"):
        load_manifests((str(tmp_path / "a.yaml"),), variables=(), environ={"NODE_ENV": "homologação"})


async def test_tabelas_com_separacao_de_ambiente(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    """Including a table made later: any table that has an environment, or refers to one that has, carries the
    column."""
    await apply(database, keys, tmp_path)
    with psycopg.connect(database.reveal()) as conn:
        found = conn.execute(
            "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' "
            "AND column_name = 'environment' ORDER BY 1"
        ).fetchall()
        assert [row[0] for row in found] == sorted(SHARED)
        loose = conn.execute(
            "SELECT c.conname FROM pg_constraint c WHERE c.contype = 'f' AND c.confrelid = ANY(%s::regclass[]) "
            "AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.conrelid "
            "AND a.attnum = ANY(c.conkey) AND a.attname = 'environment')",
            (list(SHARED),),
        ).fetchall()
        assert loose == []


def test_database_environment_e_dito_no_log() -> None:
    setup = Setup(INSTANCE, Secret("x"), "development", "admin@empresa.com", "A", Secret("x"), "Nome da Empresa")
    assert opening_lines(setup, "development")[0] == "🌍 Database Environment: development (NODE_ENV: development)"


# Ambiente Isolado


def test_desenvolvimento_e_producao_completamente_separados(isolated: Isolated) -> None:
    for name in ("production", "development"):
        assert seen_by(isolated.of(name), name) == {table: {name} for table in SHARED}


async def test_impossivel_misturar_dados_entre_ambientes(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    await apply(database, keys, tmp_path)
    fill(database.reveal(), "production", "development")
    links = (
        ("conversations", "client_id", "c"), ("conversations", "queue_id", "q"), ("conversations", "user_id", "u"),
        ("messages", "conversation_id", "k"), ("messages", "user_id", "u"),
    )  # fmt: skip
    with psycopg.connect(database.reveal(), autocommit=True) as conn:
        for own, other in (("production", "development"), ("development", "production")):
            for table, column, letter in links:
                with pytest.raises(errors.ForeignKeyViolation):
                    conn.execute(f"UPDATE {table} SET {column} = '{letter}{other}' WHERE environment = '{own}'")
            for table in ("users", "clients", "queues", "conversations", "messages"):
                with pytest.raises(errors.ForeignKeyViolation):
                    conn.execute(f"UPDATE {table} SET environment = '{other}' WHERE environment = '{own}' "
                                 f"AND id LIKE '_{own}'")  # fmt: skip


async def test_limpeza_automatica_de_dados_de_teste(database: Secret, keys: KeyRing, tmp_path: Path) -> None:
    """purge_development_data: the dry run shows it and apply does it, as the manifest has consented."""
    await apply(database, keys, tmp_path)
    fill(database.reveal(), "development")
    wanted = environment(purge_development_data=True)
    done = await apply(database, keys, tmp_path, environment=wanted)
    assert (done.outcome, done.error, len(done.changes)) == ("changed", None, 5)
    assert not any(rows_of(database.reveal(), "development").values())


# Isolamento


def test_ambientes_completamente_isolados(isolated: Isolated) -> None:
    """Without the setting no rows are visible, even to a session that forgets to set the environment."""
    for who in ("production", "development", "owner"):
        assert seen_by(isolated.of(who), "") == {table: set() for table in SHARED}


def test_dados_de_teste_nao_vazam_para_producao(isolated: Isolated) -> None:
    with psycopg.connect(isolated.development, autocommit=True) as conn:
        for name in ("development", "production"):
            conn.execute("SELECT set_config('fiv.environment', %s, false)", (name,))
            with pytest.raises(errors.InsufficientPrivilege):
                conn.execute("INSERT INTO clients (name, environment) VALUES ('teste', 'production')")
    assert not any("development" in found for found in seen_by(isolated.production, "production").values())


def test_usuarios_so_veem_dados_do_seu_ambiente(isolated: Isolated) -> None:
    """The login decides, not what it says about itself."""
    assert seen_by(isolated.development, "production") == {table: set() for table in SHARED}
    assert seen_by(isolated.production, "development") == {table: set() for table in SHARED}
