"""PostgreSQL's errors in fivrec's words, with the server's own words if they can't quote a row.

Never passes on a DETAIL, a URL or a value: those may hold secrets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import psycopg
from psycopg import errors

from reconciler.database.pipeline import MOST_BYTES, MOST_PARTS, MOST_ROWS, TooMuchDataError
from reconciler.model.errors import DatabaseError, FivrecError, Refused
from reconciler.model.names import printable
from reconciler.model.patterns import late
from reconciler.model.secret import MASK

SCHEMA_MISSING = (
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.InvalidSchemaName,
    errors.UndefinedFunction,
)
"""The errors of statements in a database whose schema is missing or stale."""

_QUOTABLE = ("08", "0A", "25", "28", "3D", "40", "42", "53", "54", "55", "57", "58", "XX")
"""Classes of SQLSTATE whose primary message names objects and states, never values of rows."""

_RAISED = ("exec_stmt_raise", "PLy_output", "do_util_elog", "pltcl_elog")
"""PostgreSQL's source functions of errors that the app's own functions raise: their words may quote values."""

_UNFIT = {
    "RewriteQuery": (
        "a rule on a table is in the way",
        "make the rule a trigger, or drop it: SELECT tablename, rulename FROM pg_rules",
    ),
    "ExecCheckIndexConstraints": (
        "a unique constraint is deferrable",
        "drop the constraint, and add it without DEFERRABLE",
    ),
    "ExecFindPartition": (
        "no partition takes the row that is to be written",
        "make the partition that is missing, or one for all the rest (CREATE TABLE … PARTITION OF … DEFAULT)",
    ),
    "CheckCmdReplicaIdentity": (
        "a publication of logical replication keeps the table's rows from being changed",
        "ALTER TABLE … REPLICA IDENTITY FULL, and no list of columns in the publication, or take the table out of it",
    ),
}
"""By PostgreSQL's source function: errors about a table that fivrec's statements can't work with."""

APPLY_ONCE = (
    "run `fivrec apply` once; if apply itself says so, `fivrec apply --deep` puts back what is missing, unless "
    "a table or the schema fivrec is another program's"
)
NOT_PUT_BACK = (
    "no apply puts back a column of a table of fivrec's own, nor an index whose name another table's has: add the "
    "column as `fivrec sql` has it, with a DEFAULT for the rows that are there (ALTER TABLE … ADD COLUMN), rename that "
    "index, or restore the table from a backup; then run again. A table of another program's has to give up its name"
)
LEFT_EMPTY = "declare a value for it, or ALTER TABLE … ALTER COLUMN … DROP NOT NULL, then run again"
_KEYS = (
    "`fivrec apply --deep` puts back that of settings; of plans: ALTER TABLE plans ADD PRIMARY KEY (id); of a table of "
    "fivrec's own that was made again: ALTER TABLE … ADD PRIMARY KEY (…), as `fivrec sql` has it"
)
_DOUBLE = "what is written breaks the constraint that is named: change that, the row that is there, or the manifest"
_NOT_THIS_WAY = (
    errors.FeatureNotSupported,
    errors.ObjectNotInPrerequisiteState,
    errors.CheckViolation,
    errors.InvalidColumnReference,
)
_GENERATED = "make it an ordinary column: ALTER TABLE … ALTER COLUMN … DROP EXPRESSION, or DROP IDENTITY"

_NOT_ISOLATED = "FV001"
"""Raised only by fivrec.set_isolation, whose own words name roles, policies and views."""

_COLUMN_TYPE = "FV002"
"""Raised by migration 0003, whose own words name a column."""

_UNREADABLE = "a stored value can't be read: most likely a time that is infinite or before the year 1"
_TIMES = "look for infinity, -infinity and BC among the times of the app's tables, then run again"
_OTHER_TYPES = "a column has another type than documented: compare the app's tables with what `fivrec sql` prints"

_HIDING = "check_enable_rls"
"""PostgreSQL's source function of the error if row_security is off and a policy would hide rows."""

_UNHIDE = (
    "what is hidden can't be told from what is missing: connect as a login that sees every row (the tables' owner, "
    "without FORCE ROW LEVEL SECURITY, or ALTER ROLE … BYPASSRLS), or ALTER TABLE … DISABLE ROW LEVEL SECURITY"
)

_ITS_WORDS = "the server's log has its words, which may quote values; nothing was written"

_ORDINARY = (
    "fivrec adopts ordinary tables; from PostgreSQL 18 on, partitioned ones too, if their keys are id and environment"
)

_LOCK = (
    "run again later; who may hold it, the longest transaction first: "
    "SELECT pid, usename, application_name, state, xact_start FROM pg_stat_activity ORDER BY xact_start; "
    "those that were prepared have no session: SELECT gid, owner, prepared FROM pg_prepared_xacts"
)
_TOO_MUCH = (
    f"a reading was broken off, because it takes more than {MOST_BYTES // 1024**2} MiB, {MOST_ROWS:,} rows of a table, "
    f"or {MOST_PARTS:,} items of JSON"
)
_LARGE = (
    "find the large rows: SELECT relid::regclass, pg_size_pretty(pg_total_relation_size(relid)) "
    "FROM pg_stat_user_tables ORDER BY pg_total_relation_size(relid) DESC LIMIT 5"
)
_GRANT = "GRANT the login what it needs, or use the owner"
_OWNER = "run as the owner of what is named, or GRANT the owner's role to this login"

_WRITES_REFUSED = "the server does not accept writes"
_NO_NUMBERS = ("GetNewTransactionId", "GetNewMultiXactId")
"""PostgreSQL's source functions of errors shortly before its transaction numbers wrap around."""
_VACUUM = (
    "end old transactions (pg_stat_activity, pg_prepared_xacts) and replication slots (pg_replication_slots), then "
    "VACUUM the database that is named, as a superuser: SELECT datname, age(datfrozenxid) FROM pg_database"
)

CONFLICT = "database_conflict"
STARTING = ("database_unreachable", "the server is starting or stopping", "run again later")
DISK_FULL = ("disk_full", "the server's disk is full", "make room there, then run again")
NO_CONNECTION = (
    "too_many_connections",
    "the server has no free connection",
    "lower --forks, or --keep-connections of a watch, raise max_connections, or put PgBouncer before it",
)
"""Code, message and hint of what a server says of a statement, and also of a connection that it refuses."""

_KNOWN: tuple[tuple[type[psycopg.Error] | tuple[type[psycopg.Error], ...], str, str, str], ...] = (
    (TooMuchDataError, "too_much_data", _TOO_MUCH, _LARGE),
    (errors.LockNotAvailable, "lock_timeout", "another session holds a lock that is needed", _LOCK),
    (errors.QueryCanceled, "statement_timeout", "a statement took too long and was stopped", "run again later"),
    (
        (errors.IdleInTransactionSessionTimeout, errors.TransactionTimeout),
        "idle_timeout",
        "the server ended a transaction that was idle, or took too long",
        "run again; nothing was written",
    ),
    (
        errors.ReadOnlySqlTransaction,
        "database_read_only",
        _WRITES_REFUSED,
        "use the primary's address: this is a replica, or default_transaction_read_only is on",
    ),
    (errors.DiskFull, *DISK_FULL),
    (errors.TooManyConnections, *NO_CONNECTION),
    (
        (errors.UntranslatableCharacter, errors.CharacterNotInRepertoire),
        "database_encoding",
        "a character to be written or read does not exist in the database's encoding, or in UTF-8",
        "mend the text, or move to a database of encoding UTF8 (pg_dump, CREATE DATABASE … ENCODING 'UTF8')",
    ),
    (errors.CannotConnectNow, *STARTING),
    (
        (errors.AdminShutdown, errors.CrashShutdown, errors.IdleSessionTimeout),
        "database_unreachable",
        "the server ended the connection",
        "run again",
    ),
    (
        (errors.SerializationFailure, errors.DeadlockDetected),
        CONFLICT,
        "another session changed the same rows",
        "run again",
    ),
    (
        errors.UniqueViolation,
        "rows_unfit",
        "rows have a value in common that must be unique",
        "merge or remove the duplicates by hand, then run again",
    ),
    (
        errors.NotNullViolation,
        "rows_unfit",
        "a required value is missing",
        "fill the column in the rows that are there, or give it a default, then run again",
    ),
    (
        (errors.CheckViolation, errors.ForeignKeyViolation, errors.ExclusionViolation),
        "rows_unfit",
        "a row breaks a rule of its table",
        "see what the constraint that is named asks for, then run again",
    ),
    (
        errors.RaiseException,
        "trigger_refused",
        "a trigger or function of the app's refused what was to be written",
        _ITS_WORDS,
    ),
    (
        errors.ProgramLimitExceeded,
        "value_unfit",
        "a value is too long for the index that it belongs to",
        "shorten what is declared: a name or e-mail address of more than some 2,600 bytes may fit no index",
    ),
    (
        psycopg.DataError,
        "value_unfit",
        "a value does not fit the type or the length of its column",
        "compare the app's tables with what `fivrec sql` prints; the server's log names the value",
    ),
    (SCHEMA_MISSING, "schema_missing", "the database's tables are missing or older than this fivrec", APPLY_ONCE),
)


def translated(exc: psycopg.Error, where: str, secrets: Sequence[str] = ()) -> FivrecError:
    """Returns the error as fivrec shows it, without any of `secrets`. `where` names the database, e.g. `database
    fivapp_a on 127.0.0.1:5432`."""
    said = _said(exc, secrets)
    special = _special(exc, where, said)
    if special is not None:
        return special
    for kinds, code, message, hint in _KNOWN:
        if isinstance(exc, kinds):
            inside = f", in {found}" if (found := _function(exc)) else ""
            text = f"{where}: {message}{_object(exc)}{inside}{said}"
            return DatabaseError(text, code=code, hint=_column_hint(exc) or hint)
    if isinstance(exc, errors.InsufficientPrivilege):
        hint = _OWNER if (exc.diag.message_primary or "").startswith("must be owner of") else _GRANT
        words = said if said.startswith(":") else f": permission denied{said}"
        return DatabaseError(f"{where}{words}", code="database_denied", hint=hint)
    if exc.sqlstate is None and isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError)):
        return DatabaseError(
            f"{where}: the connection was lost",
            code="database_unreachable",
            hint="check the network and the server's log (idle_session_timeout and transaction_timeout of the login or "
            "the database end sessions too), then run again",
        )
    if _function(exc):
        return _refused_by_function(exc, where, said)
    # If its message can be shown, so can its advice, such as to set REPLICA IDENTITY.
    advice = masked(exc.diag.message_hint or "", secrets) if said.startswith(":") else ""
    hint = printable(advice) or (
        _UNSET if exc.diag.source_function == "find_option" else "the server's log has the details"
    )
    return DatabaseError(f"{where}: PostgreSQL refused{_object(exc)}{said}", hint=hint)


def is_of_another(exc: DatabaseError, *, retry_rows: bool) -> bool:
    """Whether another session that wrote at the same time may be the cause, so that a second attempt may succeed. With
    `retry_rows` also if a row was refused as a duplicate: the app may have made it between reading and writing."""
    return exc.code == CONFLICT or (retry_rows and isinstance(exc.__cause__, errors.UniqueViolation))


def _refused_by_function(exc: psycopg.Error, where: str, said: str) -> DatabaseError:
    words = f"{where}: the app's function {_function(exc)}, which a write runs, refused or failed{_object(exc)}{said}"
    return DatabaseError(words, code="trigger_refused", hint=_ITS_WORDS)


def _special(exc: psycopg.Error, where: str, said: str) -> FivrecError | None:  # noqa: PLR0911 (a table of causes)
    """The errors that can't be told apart by their class alone."""
    if _is_raised(exc) or (exc.sqlstate in (_NOT_ISOLATED, _COLUMN_TYPE) and _function(exc)):
        return _refused_by_function(exc, where, said)
    if (refusal := _of_the_server(exc, where, said)) is not None:
        return refusal
    if isinstance(exc, errors.UniqueViolation) and exc.diag.schema_name in ("pg_catalog", "fivrec"):
        words = f"another session made the same at the same time{_object(exc)}{said}"
        return DatabaseError(f"{where}: {words}", code=CONFLICT, hint="run again")
    if isinstance(exc, errors.UniqueViolation) and _is_email(exc):
        return DatabaseError(
            f"{where}: another user, perhaps of the other environment, has the administrator's email",
            code="admin_email_taken",
            hint="declare another email for this environment: users.email is unique in both",
        )
    if exc.diag.source_function == _HIDING:
        return DatabaseError(f"{where}: row-level security hides rows{said}", code="rows_hidden", hint=_UNHIDE)
    if exc.sqlstate == _NOT_ISOLATED:
        words = exc.diag.message_primary or "isolation: enforced is not possible here"
        return Refused(f"{where}: {words}", code="isolation_refused", hint=exc.diag.message_hint or "")
    if exc.sqlstate == _COLUMN_TYPE or _is_of_types(exc):
        words = exc.diag.message_primary or "a column has another type than documented"
        hint = exc.diag.message_hint if exc.sqlstate == _COLUMN_TYPE else _OTHER_TYPES
        return DatabaseError(f"{where}: {words}", code="column_type", hint=hint or "")
    if isinstance(exc, (errors.RaiseException, psycopg.DataError)) and _function(exc):
        return _refused_by_function(exc, where, said)
    if isinstance(exc, psycopg.DataError) and exc.sqlstate is None:
        return DatabaseError(f"{where}: {_UNREADABLE}", code="value_unfit", hint=_TIMES)
    return _of_a_table(exc, where, said)


def _of_a_table(exc: psycopg.Error, where: str, said: str) -> DatabaseError | None:
    """Errors about something in a table of the app's that fivrec's writes can't work with."""
    if isinstance(exc, errors.UniqueViolation) and _is_written(exc):
        words = f"another row has a value that must be unique{_object(exc)}{said}"
        return DatabaseError(f"{where}: {words}", code="rows_unfit", hint=_DOUBLE)
    if exc.diag.source_function in _UNFIT and isinstance(exc, _NOT_THIS_WAY):
        words, hint = _UNFIT[exc.diag.source_function]
        return DatabaseError(f"{where}: {words}{_object(exc)}{said}", code="table_unfit", hint=hint)
    if exc.diag.source_function == "infer_arbiter_indexes":
        words = "a key that fivrec's writes rest on is missing"
        return DatabaseError(f"{where}: {words}{said}", code="schema_missing", hint=_KEYS)
    if isinstance(exc, errors.GeneratedAlways):
        return DatabaseError(f"{where}: a column generates its own values{said}", code="column_type", hint=_GENERATED)
    if isinstance(exc, errors.WrongObjectType) or _is_of_a_key(exc):
        return DatabaseError(f"{where}: PostgreSQL refused{_object(exc)}{said}", code="table_unfit", hint=_ORDINARY)
    return None


_UNSET = (
    "a default, trigger or policy of the app's reads this setting: ALTER ROLE … SET it for fivrec's login, or let that "
    "read current_setting(name, true)"
)
_FROM_A_WRITE = ("ExecConstraints", "ReportNotNullViolationError")


def _is_of_a_key(exc: psycopg.Error) -> bool:
    """Whether a table refuses a key of fivrec's migrations because it is partitioned by other columns."""
    return isinstance(exc, errors.FeatureNotSupported) and exc.diag.source_function == "DefineIndex"


_FUNCTION = late(r"(?:PL/\w+|SQL) function (\S+?\([^)]*\))")


def _function(exc: psycopg.Error) -> str:
    """Returns the app's function that failed, or "" if none did."""
    found = _FUNCTION.search(exc.diag.context or "")
    return found[1] if found and not found[1].startswith("fivrec.") else ""


def _is_of_types(exc: psycopg.Error) -> bool:
    """Whether a column of another type than documented is the cause. If an operator doesn't exist for a type, nothing
    is missing in the schema."""
    if isinstance(exc, errors.UndefinedFunction):
        return exc.diag.source_function == "op_error"
    return isinstance(exc, (errors.DatatypeMismatch, errors.CannotCoerce))


def _is_raised(exc: psycopg.Error) -> bool:
    """Whether a function of the app raised the error itself, so that code, table and hint are what it chose. One that
    asks for a second attempt gets it."""
    asks = isinstance(exc, (errors.SerializationFailure, errors.DeadlockDetected))
    return exc.diag.source_function in _RAISED and not asks and bool(_function(exc))


def of_a_function(exc: psycopg.Error, where: str, schema: str) -> DatabaseError | None:
    """Returns the error if a function of the app, run by a write or by a migration's event trigger, can't find a name
    that it uses without a schema; None if no function of the app failed, or if it raised the error itself."""
    found = _function(exc)
    if not found or _is_raised(exc):
        return None
    return DatabaseError(
        f"{where}: {found}, which a write runs, failed: {exc.diag.message_primary}",
        code="app_function_failed",
        hint=f"ALTER FUNCTION {found} SET search_path = {schema}, or the schema of what it names; migrations, and a "
        "login that can do more than own this database, look up nothing in schemas that others may write to",
    )


def not_text(where: str) -> DatabaseError:
    """Returns the error for text that Python couldn't encode or decode as UTF-8. It doesn't quote the text."""
    return DatabaseError(
        f"{where}: text that is to be written or read is not Unicode",
        code="database_encoding",
        hint="look for broken characters in the manifest and the database",
    )


def _said(exc: psycopg.Error, secrets: Sequence[str]) -> str:
    """Returns the server's own words, if they can't quote values, and its SQLSTATE; "" if no server answered."""
    state, primary = exc.sqlstate, exc.diag.message_primary
    if state is None:
        return ""
    context = exc.diag.context or ""
    ours = isinstance(exc, errors.UndefinedTable) and _is_of_a_block(context)  # guard.sql, `hold`
    raised = _is_of_the_app(context) or (exc.diag.source_function in _RAISED and not ours)
    words = f": {masked(primary, secrets)}" if primary and state.startswith(_QUOTABLE) and not raised else ""
    return f"{printable(words)} (SQLSTATE {state})"


def _is_of_the_app(context: str) -> bool:
    """Whether the innermost function that failed, which comes first, isn't one of fivrec's own. DO blocks of migrations
    are fivrec's too."""
    found = _IN_FUNCTION.search(context)
    return found is not None and found[1] != _BLOCK and not found[1].startswith("fivrec.")


def _is_of_a_block(context: str) -> bool:
    """Whether a DO block of fivrec's failed, and no function that runs one."""
    return set(_IN_FUNCTION.findall(context)) == {_BLOCK}


_IN_FUNCTION = late(r"PL/\w+ function (\S+)")
_BLOCK: Final = "inline_code_block"
"""How contexts name a DO block; a function of that name has parentheses there."""


def masked(text: str, secrets: Sequence[str]) -> str:
    """Returns the first line of a text with secrets masked; a short one only as a whole word, as it may be part of
    others."""
    line = text.strip().partition("\n")[0]
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        found = re.escape(secret) if len(secret) > _SHORT else rf"(?<!\w){re.escape(secret)}(?!\w)"
        line = re.sub(found, MASK, line)
    return line


_SHORT: Final = 3
_STATEMENT_MODE: Final = "statement pooling mode"


def _of_the_server(exc: psycopg.Error, where: str, said: str) -> DatabaseError | None:
    if isinstance(exc, errors.ProgramLimitExceeded) and exc.diag.source_function in _NO_NUMBERS:
        return DatabaseError(f"{where}: {_WRITES_REFUSED}{said}", code="database_read_only", hint=_VACUUM)
    if _STATEMENT_MODE not in said:
        return None
    return DatabaseError(
        f"{where}: PgBouncer is in statement mode, which has no transactions{said}",
        code="database_pooler",
        hint="set pool_mode = transaction, or session, for this database in PgBouncer",
    )


def _object(exc: psycopg.Error) -> str:
    """Returns the table, column and constraint concerned, if PostgreSQL names them."""
    diag = exc.diag
    table = f"{diag.schema_name}.{diag.table_name}" if diag.schema_name != "public" else diag.table_name
    named = [part for part in (diag.table_name and table, diag.column_name, diag.constraint_name) if part]
    return f" ({printable(', '.join(named))})" if named else ""


def _column_hint(exc: psycopg.Error) -> str:
    """Returns the hint for a column that a write leaves empty, or for one that is being added: unlike others, it can't
    be filled in existing rows."""
    diag = exc.diag
    if not isinstance(exc, errors.NotNullViolation) or diag.source_function != "ATRewriteTable":
        return LEFT_EMPTY if isinstance(exc, errors.NotNullViolation) and diag.source_function in _FROM_A_WRITE else ""
    return (
        f"rows are there without this column: ALTER TABLE {diag.table_name} ADD COLUMN {diag.column_name}, of the type "
        "that `fivrec sql` prints, NOT NULL and with a DEFAULT for them; then run again"
    )


def _is_email(exc: psycopg.Error) -> bool:
    return exc.diag.table_name == "users" and "email" in (exc.diag.constraint_name or "") and _is_written(exc)


def _is_written(exc: psycopg.Error) -> bool:
    """Whether a row was refused when it was written, not existing rows when an index was built over them."""
    return exc.diag.source_function == "_bt_check_unique"
