"""What a weaker database role leaves behind for a stronger one that runs fivrec never runs with more rights.

Every attack ends in `seize`: it succeeds if anybody but its author runs it, and leaves a row that says who did.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from reconciler.database.pipeline import PipelinedConnection
from reconciler.database.preconditions import guard_params
from reconciler.database.rows import Scope
from reconciler.database.status_queries import HistoryFilter, LogFilter
from reconciler.database.transaction import open_locked, open_reading
from reconciler.engine.purge import with_purge
from reconciler.engine.reconcile import preview, reconcile
from reconciler.engine.rotate_keys import rotate
from reconciler.engine.status_and_logs import query_checks, query_history, query_status
from reconciler.engine.usage import count_usage
from reconciler.model.secret import Secret
from reconciler.model.types import Desired
from reconciler.planning.report import InstanceReport
from reconciler.support.crypto.keyring import KeyRing
from tests.support.engine import desired_of, document, run_of

pytestmark = pytest.mark.usefixtures("direct")  # a pooler would not know the logins

SEIZE = """
CREATE SCHEMA app_own AUTHORIZATION {app};
CREATE TABLE app_own.seized (by_whom text);
GRANT INSERT, SELECT ON app_own.seized TO PUBLIC;
GRANT USAGE ON SCHEMA app_own TO PUBLIC;
"""
SEIZED = "INSERT INTO app_own.seized SELECT current_user WHERE current_user <> '{app}'"
"""In an attack's function: the proof that somebody else ran it."""

EQUALS = """
CREATE FUNCTION public.evil(varchar, varchar) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
  {seize}; RETURN $1::text OPERATOR(pg_catalog.=) $2::text; END$$;
CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = public.evil);
CREATE FUNCTION public.evil2(varchar, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
  {seize}; RETURN $1::text OPERATOR(pg_catalog.=) $2; END$$;
CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = text, FUNCTION = public.evil2);
CREATE FUNCTION public.evil3(text, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
  {seize}; RETURN $1 OPERATOR(pg_catalog.=) $2; END$$;
CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.evil3)
"""
TRIGGER = """
CREATE FUNCTION app_own.t() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {seize}; RETURN NEW; END$$;
CREATE TRIGGER t BEFORE INSERT OR UPDATE ON public.{table} FOR EACH ROW EXECUTE FUNCTION app_own.t()
"""
RETURNS_TRUE = """
CREATE FUNCTION app_own.f() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN {seize}; RETURN true; END$$;
CREATE FUNCTION app_own.f(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN
  PERFORM app_own.f(); RETURN $1; END$$;
CREATE FUNCTION app_own.b(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN app_own.f(); END$$;
"""

DOMAIN_OF_APP = RETURNS_TRUE + "CREATE DOMAIN app_own.d AS text CHECK (app_own.b(VALUE));"
OWN_TABLE = "SET ROLE NONE; ALTER TABLE public.{table} OWNER TO {app}; SET ROLE {app};"
BY_NUMBER = (
    """DO $do$BEGIN EXECUTE pg_catalog.replace($$ {statement} $$, 'NUMBER', 'app_own.d'::regtype::oid::text); END$do$"""
)
"""No dependency records a type that a function gets by its number, or by its name in a text."""

ATTACKS = {
    "operator": EQUALS,
    "operators-in-front": EQUALS.replace("public.", "app_own.") + "; SET ROLE NONE; ALTER DATABASE {database} SET "
    "search_path = app_own, pg_catalog, public",
    "concat-operator": """CREATE FUNCTION public.cat(text, varchar) RETURNS text LANGUAGE plpgsql AS $$BEGIN
      {seize}; RETURN pg_catalog.concat($1, $2); END$$;
      CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = varchar, FUNCTION = public.cat)""",
    "functions": """CREATE FUNCTION public.now(boolean DEFAULT true) RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN
      {seize}; RETURN pg_catalog.now(); END$$;
      CREATE FUNCTION public.set_config(varchar, varchar, boolean) RETURNS text LANGUAGE plpgsql AS $$BEGIN
      {seize}; RETURN $2; END$$;
      CREATE FUNCTION public.json_to_recordset(text) RETURNS SETOF record LANGUAGE plpgsql AS $$BEGIN
      {seize}; END$$;
      CREATE FUNCTION public.quote_ident(varchar) RETURNS text LANGUAGE plpgsql AS $$BEGIN {seize}; RETURN $1; END$$""",
    "trigger": TRIGGER,
    "temporary-trigger": TRIGGER.replace("app_own.t()", "pg_temp.t()"),
    "trigger-on-audit": TRIGGER.replace("public.{table}", "fivrec.audit_log"),
    "trigger-condition": """CREATE FUNCTION app_own.f() RETURNS text LANGUAGE plpgsql AS $$BEGIN
      {seize}; RETURN ''; END$$;
      CREATE TRIGGER t BEFORE UPDATE ON public.{table} FOR EACH ROW
      WHEN ((SELECT_STAT) IS NOT NULL) EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()""".replace(
        "(SELECT_STAT)", "pg_catalog.set_config('search_path', 'app_own', true)"
    ),
    "default": RETURNS_TRUE + "SET ROLE NONE; ALTER TABLE public.{table} OWNER TO {app}; SET ROLE {app};"
    "ALTER TABLE public.{table} ADD extra boolean DEFAULT app_own.f()",
    "default-set-config": "SET ROLE NONE; ALTER TABLE public.{table} OWNER TO {app}; SET ROLE {app};"
    "ALTER TABLE public.{table} ADD extra text DEFAULT pg_catalog.set_config('search_path', 'app_own', true)",
    "default-setting": OWN_TABLE + "ALTER TABLE public.{table} ADD extra text;"
    "ALTER TABLE public.{table} ALTER extra SET DEFAULT pg_catalog.current_setting('data_directory')",
    "generated-column": RETURNS_TRUE + "SET ROLE NONE; ALTER TABLE public.{table} OWNER TO {app}; SET ROLE {app};"
    "ALTER TABLE public.{table} ADD extra text GENERATED ALWAYS AS (app_own.f(id::text)) STORED",
    "check": RETURNS_TRUE + "SET ROLE NONE; ALTER TABLE public.{table} OWNER TO {app}; SET ROLE {app};"
    "ALTER TABLE public.{table} ADD CHECK (app_own.f()) NOT VALID",
    "index-expression": RETURNS_TRUE + "SET ROLE NONE; ALTER TABLE public.{table} OWNER TO {app}; SET ROLE {app};"
    "CREATE INDEX ON public.{table} (app_own.f(id::text))",
    "policy": RETURNS_TRUE + "SET ROLE NONE; ALTER TABLE public.{table} OWNER TO {app}; SET ROLE {app};"
    "ALTER TABLE public.{table} ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON public.{table} USING (app_own.f())",
    "rule": "SET ROLE NONE; ALTER TABLE public.{table} OWNER TO {app}; SET ROLE {app};"
    + RETURNS_TRUE
    + "CREATE RULE r AS ON UPDATE TO public.{table} DO ALSO SELECT app_own.f()",
    "view": RETURNS_TRUE + "SET ROLE NONE; ALTER TABLE public.{table} RENAME TO kept;"
    "GRANT SELECT ON public.kept TO {app}; SET ROLE {app};"
    "CREATE VIEW public.{table} AS SELECT * FROM public.kept WHERE app_own.b(id::text)",
    "domain": RETURNS_TRUE + "CREATE DOMAIN app_own.d AS text CHECK (app_own.b(VALUE)); SET ROLE NONE;"
    "ALTER TABLE public.{table} ALTER status TYPE app_own.d",
    "cast": """CREATE TYPE app_own.e AS ENUM ('active', 'inactive', 'suspended');
      CREATE FUNCTION app_own.c(app_own.e) RETURNS text LANGUAGE plpgsql AS $$BEGIN {seize}; RETURN 'active'; END$$;
      CREATE CAST (app_own.e AS text) WITH FUNCTION app_own.c(app_own.e) AS IMPLICIT; SET ROLE NONE;
      ALTER TABLE public.{table} ALTER status DROP DEFAULT;
      ALTER TABLE public.{table} ALTER status TYPE app_own.e USING status::app_own.e""",
    "event-trigger": """CREATE FUNCTION app_own.e() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN {seize}; END$$;
      SET ROLE NONE; UPDATE fivrec.migrations SET checksum = 'as if it were old' WHERE version = 8;
      CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION app_own.e()""",
    "cascade-trigger": TRIGGER.replace(
        "BEFORE INSERT OR UPDATE ON public.{table}", "AFTER DELETE ON app_own.notes"
    ).replace(
        "CREATE TRIGGER",
        """CREATE TABLE app_own.notes (id text, environment text, FOREIGN KEY (id, environment)
      REFERENCES public.conversations (id, environment) ON DELETE CASCADE); CREATE TRIGGER""",
    )
    + "; INSERT INTO public.conversations (id, environment) VALUES ('c', 'development');"
    "INSERT INTO app_own.notes VALUES ('c', 'development')",
    "cascade-condition": """CREATE FUNCTION app_own.evil(text, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
      {seize}; RETURN $1 OPERATOR(pg_catalog.=) $2; END$$;
      CREATE OPERATOR app_own.= (LEFTARG = text, RIGHTARG = text, FUNCTION = app_own.evil);
      CREATE TABLE app_own.notes (id text, environment text, FOREIGN KEY (id, environment)
      REFERENCES public.conversations (id, environment) ON DELETE SET NULL (id));
      CREATE TRIGGER t BEFORE UPDATE ON app_own.notes FOR EACH ROW
      WHEN (pg_catalog.set_config('search_path', 'app_own, pg_catalog', true) IS NOT NULL)
      EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger();
      INSERT INTO public.conversations (id, environment) VALUES ('c', 'development');
      INSERT INTO app_own.notes VALUES ('c', 'development')""",
    "check-by-number": DOMAIN_OF_APP
    + OWN_TABLE
    + BY_NUMBER.replace(
        "{statement}", "ALTER TABLE public.{table} ADD CHECK (domain_in('x', NUMBER::oid, -1) IS NOT NULL) NOT VALID"
    ),
    "default-by-number": DOMAIN_OF_APP
    + OWN_TABLE
    + BY_NUMBER.replace(
        "{statement}",
        "ALTER TABLE public.{table} ADD extra text DEFAULT array_to_string(array_in('{x}', NUMBER::oid, -1), ',')",
    ),
    "condition-by-number": DOMAIN_OF_APP
    + BY_NUMBER.replace(
        "{statement}",
        """CREATE TRIGGER t BEFORE UPDATE ON public.{table} FOR EACH ROW
      WHEN (domain_in('x', NUMBER::oid, -1) IS NOT NULL) EXECUTE FUNCTION suppress_redundant_updates_trigger()""",
    ),
    "check-by-name": DOMAIN_OF_APP
    + OWN_TABLE
    + """DO $do$BEGIN IF current_setting('server_version_num')::integer < 160000 THEN
      ALTER TABLE public.{table} ADD CHECK (app_own.f()) NOT VALID; ELSE
      ALTER TABLE public.{table} ADD CHECK (pg_input_is_valid('x', 'app_own.d')) NOT VALID; END IF; END$do$""",
    "schema-made-before": """SET ROLE NONE; DROP SCHEMA fivrec CASCADE; SET ROLE {app}; CREATE SCHEMA fivrec;
      CREATE TABLE fivrec.audit_log (seq bigint PRIMARY KEY, hash text, prev_hash text, run_id text, at timestamptz);
      CREATE FUNCTION fivrec.t() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {seize}; RETURN NEW; END$$;
      CREATE TRIGGER t BEFORE INSERT ON fivrec.audit_log FOR EACH ROW EXECUTE FUNCTION fivrec.t()""",
    "view-in-fivrec": RETURNS_TRUE
    + """SET ROLE NONE; ALTER TABLE fivrec.applied RENAME TO kept;
      GRANT ALL ON SCHEMA fivrec TO {app}; GRANT SELECT ON fivrec.kept TO {app}; SET ROLE {app};
      CREATE VIEW fivrec.applied AS SELECT * FROM fivrec.kept WHERE app_own.f()""",
}
RUN_ANYWAY = {
    *("trigger", "temporary-trigger", "trigger-on-audit", "trigger-condition", "default", "default-set-config", "view"),
    *("event-trigger", "cascade-trigger", "cascade-condition"),
    *("default-setting", "check-by-number", "default-by-number", "condition-by-number", "check-by-name"),
    *("generated-column", "check", "index-expression", "policy", "rule", "domain", "cast"),
}
"""The plain owner of a single database still accepts the app's own code."""


@dataclass(frozen=True)
class Ground:
    """A configured database, the login that runs fivrec there, and a weaker role with DML, CREATE and TRIGGER."""

    admin: str
    url: Secret
    app: str
    database: str

    def attack(self, statements: str) -> psycopg.Connection:
        """Run as the weaker role, in a session that stays open."""
        conn = psycopg.connect(self.admin, autocommit=True)
        seize = SEIZED.format(app=self.app)
        login = urlsplit(self.url.reveal()).username or ""
        named = {"seize": seize, "app": self.app, "database": self.database, "table": "instance_config", "login": login}
        conn.execute(SEIZE.format(**named).encode())
        conn.execute(f"ALTER TABLE app_own.seized OWNER TO {self.app}".encode())
        conn.execute(f"SET ROLE {self.app}".encode())
        conn.execute(_filled(statements, named).encode())
        conn.execute("RESET ROLE")
        conn.execute("DELETE FROM app_own.seized")  # rows from the setup itself
        return conn

    def seized(self) -> list[tuple[str]]:
        with psycopg.connect(self.admin) as conn:
            return conn.execute("SELECT DISTINCT by_whom FROM app_own.seized").fetchall()


def _filled(text: str, named: dict[str, str]) -> str:
    for name, value in named.items():
        text = text.replace(f"{{{name}}}", value)
    return text


@pytest.fixture
def ground(make_database: Callable[[], Secret]) -> Iterator[Callable[[str], Ground]]:
    made: list[tuple[str, str]] = []

    def build(attributes: str) -> Ground:
        admin = make_database().reveal()
        database = urlsplit(admin).path.lstrip("/")
        app, login = (f"{name}_{secrets.token_hex(4)}" for name in ("app", "login"))
        with psycopg.connect(admin, autocommit=True) as conn:
            for role, with_attributes in ((app, ""), (login, attributes)):
                text = f"CREATE ROLE {{}} LOGIN PASSWORD 'x' {with_attributes}"
                conn.execute(sql.SQL(text).format(sql.Identifier(role)))  # type: ignore[arg-type]
                made.append((admin, role))
            conn.execute(
                f"ALTER DATABASE {database} OWNER TO {login}; GRANT CREATE ON DATABASE {database} TO {app}".encode()
            )
            conn.execute(f"GRANT ALL ON SCHEMA public TO {app}".encode())
        parts = urlsplit(admin)
        address = parts.netloc.rpartition("@")[2]
        return Ground(admin, Secret(urlunsplit(parts._replace(netloc=f"{login}:x@{address}"))), app, database)

    yield build
    for url, role in reversed(made):
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (role,))
            name = sql.Identifier(role)
            conn.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(name))
            conn.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(name))
            conn.execute(sql.SQL("DROP ROLE {}").format(name))


async def every_command(desired: Desired, keys: KeyRing, folder: Path) -> list[str]:
    """Run every command that reads or writes an instance. Returns the codes of those that were refused."""
    run = run_of(keys, folder)
    more = KeyRing((*KeyRing.passing().keys, *keys.keys))
    codes: list[str] = []

    def note(report: InstanceReport) -> None:
        if report.error is not None:
            codes.append(report.error.code)

    note(await preview(desired, run))
    note(await reconcile(desired, run_of(keys, folder, check_only=True)))
    note(await reconcile(desired, run))
    note(await reconcile(desired, run_of(keys, folder, deep=True)))
    note(await rotate(desired, run_of(more, folder)))
    purged = with_purge([desired], "development")
    shown = await preview(purged, run_of(more, folder, check_only=True))
    note(shown)
    accepted = frozenset({shown.digest or ""})
    note(await reconcile(purged, run_of(more, folder, check_only=True, accept=accepted)))
    for ask in (
        lambda: query_status(desired, run),
        lambda: query_checks(desired, run, LogFilter()),
        lambda: query_history(desired, run, HistoryFilter(limit=10)),
        lambda: count_usage(desired, run),
    ):
        try:
            await ask()
        except Exception as exc:  # noqa: BLE001 (what it is does not matter here, but that nothing was seized)
            codes.append(getattr(exc, "code", type(exc).__name__))
    return codes


async def _attacked(
    name: str, attributes: str, ground: Callable[[str], Ground], keys: KeyRing, folder: Path
) -> tuple[Ground, list[str]]:
    here = ground(attributes)
    queues = {"items": [{"name": "Sales"}], "unmanaged": "keep"}
    assert (
        await reconcile(desired_of(document(plans=None), here.url, connect=None), run_of(keys, folder))
    ).error is None
    with psycopg.connect(here.admin, autocommit=True) as conn:
        for schema in ("public", "fivrec"):
            conn.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {here.app}".encode())
        conn.execute(f"GRANT USAGE ON SCHEMA fivrec TO {here.app}".encode())
    attacker = here.attack(ATTACKS[name])
    codes = await every_command(desired_of(document(plans=None, queues=queues), here.url, connect=None), keys, folder)
    attacker.close()
    return here, codes


@pytest.mark.parametrize("name", sorted(ATTACKS))
@pytest.mark.parametrize("attributes", ["SUPERUSER", "CREATEROLE", "BYPASSRLS"])
async def test_a_stronger_login_runs_no_code_of_a_weaker_role(
    name: str, attributes: str, ground: Callable[[str], Ground], keys: KeyRing, tmp_path: Path
) -> None:
    here, codes = await _attacked(name, attributes, ground, keys, tmp_path)
    assert here.seized() == []
    if name in RUN_ANYWAY:
        assert set(codes) == {"foreign_code"}


HARMLESS = """now(), ADD b text DEFAULT pg_catalog.gen_random_uuid(), ADD c text DEFAULT 'solo_',
  ADD d text DEFAULT pg_catalog.current_setting('app.tenant', true), ADD CHECK (lower(id::text) IS NOT NULL),
  ADD e uuid DEFAULT public.uuid_generate_v7()"""
UUID_V7 = "CREATE FUNCTION public.uuid_generate_v7() RETURNS uuid VOLATILE LANGUAGE internal AS 'gen_random_uuid'"
"""As the extension pg_uuidv7 has it, in C, which only a superuser can write."""


async def test_a_stronger_login_goes_on_over_harmless_expressions(
    ground: Callable[[str], Ground], keys: KeyRing, tmp_path: Path
) -> None:
    here = ground("SUPERUSER")
    desired = desired_of(document(plans=None), here.url, connect=None)
    assert (await reconcile(desired, run_of(keys, tmp_path))).error is None
    with psycopg.connect(here.admin, autocommit=True) as conn:
        conn.execute(UUID_V7)
    here.attack(f"{OWN_TABLE} ALTER TABLE public.{{table}} ADD a text DEFAULT {HARMLESS}").close()
    assert await every_command(desired, keys, tmp_path) == []


def test_the_look_for_code_prints_only_the_defaults_of_the_apps_tables(ground: Callable[[str], Ground]) -> None:
    """A database of 10,000 tables took 0.2 s longer for each transaction."""
    with psycopg.connect(ground("SUPERUSER").url.reveal()) as conn:
        plan = conn.execute(f"EXPLAIN {guard_params('public', trusted=False)['foreign_code']}".encode()).fetchall()
    assert [line for (line,) in plan if "pg_get_expr" in line and "Filter" in line] == []


ADDED_LATE = {
    "CREATE TRIGGER t BEFORE UPDATE ON public.instance_config FOR EACH ROW EXECUTE FUNCTION app_own.t()": open_locked,
    "ALTER TABLE public.instance_config ALTER status SET DEFAULT 'x'": open_locked,
    "CREATE RULE r AS ON UPDATE TO public.instance_config DO ALSO SELECT 1": open_locked,
    "ALTER TABLE public.instance_config RENAME TO kept": open_reading,
}


@pytest.mark.parametrize("late", ADDED_LATE)
async def test_no_code_slips_in_between_the_guard_and_a_superusers_use(
    late: str, ground: Callable[[str], Ground], keys: KeyRing, tmp_path: Path
) -> None:
    """By adding and dropping code in turn, a weaker role used to get it run as the superuser in most runs."""
    here = ground("SUPERUSER")
    desired = desired_of(document(plans=None), here.url, connect=None)
    assert (await reconcile(desired, run_of(keys, tmp_path))).error is None
    attacker = here.attack(
        "CREATE FUNCTION app_own.t() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {seize}; RETURN NEW; END$$"
    )
    attacker.execute("SET lock_timeout = '100ms'")
    async with await PipelinedConnection.connect(here.url.reveal()) as conn:
        await ADDED_LATE[late](conn, {}, {}, scope=Scope(desired.instance, "production"))
        with pytest.raises(psycopg.errors.LockNotAvailable):
            attacker.execute(late.encode())
        attacker.execute("UPDATE instance_config SET status = status")  # the app is not delayed
        await conn.rollback()
    attacker.execute(late.encode())
    attacker.close()


AS_LOGIN = RETURNS_TRUE + "SET ROLE NONE; SET ROLE {login};"
DOMAIN = AS_LOGIN + "CREATE DOMAIN public.own AS text CHECK (app_own.b(VALUE));"
COPIED = TRIGGER.replace("BEFORE INSERT OR UPDATE ON public.{table}", "BEFORE INSERT ON app_own.copied")
VIEW = """SET ROLE NONE; ALTER TABLE {of} RENAME TO kept; GRANT USAGE ON SCHEMA fivrec TO {app};
  GRANT SELECT ON {kept} TO {app}; SET ROLE {app}; CREATE VIEW app_own.v AS SELECT * FROM {kept};
  GRANT SELECT ON app_own.v TO PUBLIC; SET ROLE NONE; SET ROLE {login}; CREATE VIEW {of} AS SELECT * FROM app_own.v;
  SET ROLE NONE; SET ROLE {app}; CREATE OR REPLACE VIEW app_own.v AS SELECT * FROM {kept} WHERE app_own.f()"""
LENT = {
    "domain": DOMAIN + "ALTER TABLE public.{table} ALTER status TYPE public.own",
    "array": DOMAIN + "ALTER TABLE public.{table} ADD extra public.own[]",
    "composite": DOMAIN + "CREATE TYPE public.pair AS (a public.own); ALTER TABLE public.{table} ADD extra public.pair",
    "operator": AS_LOGIN
    + """SET ROLE NONE; CREATE FUNCTION app_own.same(text, text) RETURNS boolean LANGUAGE sql
      RETURN app_own.b($1); ALTER FUNCTION app_own.same(text, text) OWNER TO {app}; SET ROLE {login};
      CREATE OPERATOR public.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = app_own.same);
      ALTER TABLE public.{table} ADD CHECK (status OPERATOR(public.===) 'x') NOT VALID""",
    "standard-function": AS_LOGIN
    + """CREATE FUNCTION public.calls() RETURNS boolean LANGUAGE sql RETURN app_own.f();
      ALTER TABLE public.{table} ADD extra boolean DEFAULT public.calls()""",
    "operator-class": RETURNS_TRUE
    + """CREATE FUNCTION app_own.cmp(text, text) RETURNS integer LANGUAGE sql IMMUTABLE RETURN bttextcmp($1, $2);
      SET ROLE NONE; CREATE OPERATOR CLASS public.own FOR TYPE text USING btree AS OPERATOR 1 <, OPERATOR 2 <=,
      OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 app_own.cmp(text, text);
      CREATE INDEX ON public.{table} (instance_id public.own)""",
    "partition-key": RETURNS_TRUE
    + """SET ROLE NONE; ALTER TABLE public.status_check_logs RENAME TO old;
      CREATE TABLE public.status_check_logs (LIKE old INCLUDING DEFAULTS) PARTITION BY LIST (app_own.f(id));
      CREATE TABLE public.part PARTITION OF public.status_check_logs DEFAULT""",
    "rule": COPIED.replace("CREATE TRIGGER", "CREATE TABLE app_own.copied (a text); CREATE TRIGGER")
    + """; GRANT INSERT ON app_own.copied TO {login}; SET ROLE NONE; SET ROLE {login};
      CREATE RULE r AS ON INSERT TO public.status_check_logs DO ALSO INSERT INTO app_own.copied VALUES ('a')""",
    "view": RETURNS_TRUE + VIEW.replace("{of}", "public.plans").replace("{kept}", "public.kept"),
    "view-in-fivrec": RETURNS_TRUE + VIEW.replace("{of}", "fivrec.applied").replace("{kept}", "fivrec.kept"),
}
"""Made by the login or a superuser, who are trusted, but the code that finally runs belongs to the weaker role."""


@pytest.mark.parametrize("name", LENT)
async def test_code_of_a_weaker_role_within_the_logins_own_is_refused(
    name: str, ground: Callable[[str], Ground], keys: KeyRing, tmp_path: Path
) -> None:
    here = ground("SUPERUSER")
    desired = desired_of(document(), here.url)
    assert (await reconcile(desired, run_of(keys, tmp_path))).error is None
    here.attack(LENT[name]).close()
    reports = [
        await preview(desired, run_of(keys, tmp_path)),
        await reconcile(desired, run_of(keys, tmp_path, check_only=True)),
        await reconcile(
            desired_of(document(queues={"items": [], "unmanaged": "keep"}), here.url), run_of(keys, tmp_path)
        ),
    ]
    assert here.seized() == []
    assert [(report.exit_code, report.error and report.error.code) for report in reports] == [(3, "foreign_code")] * 3


BACK = TRIGGER.replace("BEGIN {seize}", "BEGIN EXECUTE 'SET ROLE NONE'; {seize}")
OF_THE_APP = (
    "users",
    "instance_config",
    "plans",
    "status_check_logs",
    "queues",
    "clients",
    "conversations",
    "messages",
)


@pytest.mark.parametrize("attributes", ["SUPERUSER", "CREATEROLE", "BYPASSRLS"])
async def test_acting_as_another_role_makes_no_login_weaker(
    attributes: str, ground: Callable[[str], Ground], keys: KeyRing, tmp_path: Path
) -> None:
    here = ground(attributes)
    desired = desired_of(document(plans=None), here.url, connect=None)
    assert (await reconcile(desired, run_of(keys, tmp_path))).error is None
    owned = "; ".join(f"ALTER TABLE public.{table} OWNER TO {{app}}" for table in OF_THE_APP)
    attacker = here.attack(f"SET ROLE NONE; {owned}; SET ROLE {{app}}; {BACK}")
    attacker.execute(f"ALTER DATABASE {here.database} SET role = {here.app}".encode())
    try:
        codes = await every_command(desired, keys, tmp_path)
        assert attacker.execute("SELECT DISTINCT by_whom FROM app_own.seized").fetchall() == []
        assert set(codes) == {"foreign_code"}
    finally:
        attacker.execute(f"ALTER DATABASE {here.database} RESET role".encode())
        attacker.close()


@pytest.mark.parametrize(
    ("options", "is_strong"), [("INHERIT TRUE, SET FALSE", True), ("INHERIT FALSE, SET FALSE, ADMIN TRUE", False)]
)
async def test_rights_that_a_login_inherits_make_it_stronger(
    options: str, is_strong: bool, ground: Callable[[str], Ground], keys: KeyRing, tmp_path: Path
) -> None:
    """It can't become the other role, and yet its code reads what that role may read. A role that it made (for
    isolation) gives it neither."""
    here = ground("")
    desired = desired_of(document(plans=None), here.url, connect=None)
    assert (await reconcile(desired, run_of(keys, tmp_path))).error is None
    attacker = here.attack(
        "SET ROLE NONE; GRANT TRIGGER, SELECT, UPDATE ON public.{table} TO {app}; SET ROLE {app};" + TRIGGER
    )
    if attacker.info.server_version < 160000:
        pytest.skip("memberships have no options")
    login = urlsplit(here.url.reveal()).username
    attacker.execute(f"GRANT pg_read_all_data TO {login} WITH {options}".encode())
    codes = await every_command(desired, keys, tmp_path)
    attacker.close()
    assert ("foreign_code" in codes, here.seized() == []) == (is_strong, is_strong)


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - RUN_ANYWAY))
async def test_a_plain_owner_runs_nothing_that_was_planted(
    name: str, ground: Callable[[str], Ground], keys: KeyRing, tmp_path: Path
) -> None:
    here, codes = await _attacked(name, "", ground, keys, tmp_path)
    assert here.seized() == []
    assert set(codes) <= {"foreign_schema"}


PLANTED = "CREATE FUNCTION fivrec.is_broken(name) RETURNS boolean LANGUAGE sql AS 'SELECT true'"
IN_FIVREC = {
    "function": ("FUNCTION extra(text) RETURNS text LANGUAGE sql AS 'SELECT $1'", "fivrec.extra(pg_catalog.text)"),
    "procedure": ("PROCEDURE extra() LANGUAGE sql AS 'SELECT 1'", "fivrec.extra()"),
    "table": ("TABLE extra (a integer)", "fivrec.extra"),
    "view": ("VIEW extra AS SELECT 1 AS a", "fivrec.extra"),
    "sequence": ("SEQUENCE extra", "fivrec.extra"),
    "type": ("TYPE extra AS ENUM ('a')", "type fivrec.extra"),
    "operator": (
        "OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.texteq)",
        "operator fivrec.===(pg_catalog.text,pg_catalog.text)",
    ),
}


@pytest.mark.parametrize("kind", IN_FIVREC)
async def test_what_others_made_in_fivrecs_schema_is_refused(
    kind: str, ground: Callable[[str], Ground], keys: KeyRing, tmp_path: Path
) -> None:
    here, (made, named) = ground(""), IN_FIVREC[kind]
    desired = desired_of(document(plans=None), here.url, connect=None)
    assert (await reconcile(desired, run_of(keys, tmp_path))).error is None
    with psycopg.connect(here.admin, autocommit=True) as conn:
        conn.execute(f"GRANT CREATE, USAGE ON SCHEMA fivrec TO {here.app}".encode())
        conn.execute(f"SET ROLE {here.app}; SET search_path = fivrec; CREATE {made}".encode())
    codes = await every_command(desired, keys, tmp_path)
    assert set(codes) == {"foreign_schema"}
    refused = await preview(desired, run_of(keys, tmp_path))
    assert refused.error is not None
    assert (refused.outcome, refused.exit_code) == ("refused", 3)
    assert refused.error.message.endswith(f": {named} of {here.app}")
    with psycopg.connect(here.admin, autocommit=True) as conn:
        conn.execute(refused.error.hint.rpartition("rights: ")[2].encode())
    assert (await reconcile(desired, run_of(keys, tmp_path, 9))).error is None


@pytest.mark.parametrize(
    ("options", "is_trusted"),
    [
        ("INHERIT FALSE, SET FALSE, ADMIN TRUE", False),
        ("INHERIT FALSE, SET TRUE", True),
        ("INHERIT TRUE, SET FALSE", True),
    ],
)
async def test_a_role_that_the_login_only_administers_is_another(
    options: str, is_trusted: bool, ground: Callable[[str], Ground], keys: KeyRing, tmp_path: Path
) -> None:
    """As every role is that a login with CREATEROLE makes, the app's for one."""
    here = ground("")
    login = urlsplit(here.url.reveal()).username
    desired = desired_of(document(plans=None), here.url, connect=None)
    assert (await reconcile(desired, run_of(keys, tmp_path))).error is None
    with psycopg.connect(here.admin, autocommit=True) as conn:
        if conn.info.server_version < 160000:
            pytest.skip("memberships have no options")
        conn.execute(f"GRANT {here.app} TO {login} WITH {options}".encode())
        conn.execute(f"GRANT CREATE, USAGE ON SCHEMA fivrec TO {here.app}; SET ROLE {here.app}; {PLANTED}".encode())
    codes = await every_command(desired, keys, tmp_path)
    assert set(codes) == (set() if is_trusted else {"foreign_schema"})


@pytest.mark.parametrize("older", ["DELETE FROM fivrec.migrations WHERE version > 10", "DROP TABLE fivrec.last_run"])
async def test_a_function_in_fivrecs_schema_is_found_before_calls(
    older: str, ground: Callable[[str], Ground], keys: KeyRing, tmp_path: Path
) -> None:
    """A superuser changed its owner without a GRANT, so no access list shows it: found through the functions it
    calls."""
    here = ground("")
    desired = desired_of(document(plans=None), here.url, connect=None)
    assert (await reconcile(desired, run_of(keys, tmp_path))).error is None
    with psycopg.connect(here.admin, autocommit=True) as conn:
        conn.execute(f"{PLANTED}; ALTER FUNCTION fivrec.is_broken(name) OWNER TO {here.app}".encode())
    deep = await reconcile(desired, replace(run_of(keys, tmp_path), deep=True))
    assert (deep.outcome, deep.error and deep.error.code) == ("refused", "foreign_schema")
    with psycopg.connect(here.admin, autocommit=True) as conn:
        conn.execute(older.encode())
    upgrade = await reconcile(desired, run_of(keys, tmp_path, 9))
    assert (upgrade.outcome, upgrade.error and upgrade.error.code) == ("refused", "foreign_schema")


@pytest.mark.parametrize("setting", ["statement_timeout = '5ms'", "lock_timeout = '1ms'"])
async def test_a_logins_own_limits_end_no_statement(
    setting: str, ground: Callable[[str], Ground], keys: KeyRing, tmp_path: Path
) -> None:
    here = ground("")
    desired = desired_of(document(plans=None), here.url, connect=None)
    login = urlsplit(here.url.reveal()).username
    with psycopg.connect(here.admin, autocommit=True) as conn:
        conn.execute(f"ALTER ROLE {login} SET {setting}".encode())
    assert (await reconcile(desired, run_of(keys, tmp_path))).error is None
    assert await every_command(desired, keys, tmp_path) == []


async def test_a_limit_that_stops_the_building_of_an_index_is_named(
    ground: Callable[[str], Ground], keys: KeyRing, tmp_path: Path
) -> None:
    """No transaction can build an index concurrently, so fivrec can't set a limit of its own: each run was stopped."""
    here = ground("")
    desired = desired_of(document(plans=None), here.url, connect=None)
    assert (await reconcile(desired, run_of(keys, tmp_path))).error is None
    name = "conversations_client_idx"
    with psycopg.connect(here.admin, autocommit=True) as admin, psycopg.connect(here.admin) as app:
        admin.execute(f"DROP INDEX {name}; UPDATE fivrec.migrations SET finished = false".encode())
        admin.execute(f"ALTER DATABASE {here.database} SET statement_timeout = '300ms'".encode())
        app.execute("INSERT INTO conversations (id, environment) VALUES ('c', 'production')")  # the index waits for it
        error = (await reconcile(desired, run_of(keys, tmp_path))).error
        assert error is not None
        assert (error.code, "ALTER ROLE … SET statement_timeout = 0" in (error.hint or "")) == (
            "adoption_unfinished",
            True,
        )
        app.rollback()
        login = urlsplit(here.url.reveal()).username
        admin.execute(f"ALTER ROLE {login} SET statement_timeout = 0".encode())
        assert (await reconcile(desired, run_of(keys, tmp_path))).error is None
        found = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"
        assert admin.execute(found, [f"public.{name}"]).fetchall() == [(True,)]
