"""How to call psql for an instance's database: its program, its arguments, its environment. Starts nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence

from psycopg.conninfo import make_conninfo

from reconciler.model.errors import MissingSetting
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.support.conninfo import parameters
from reconciler.support.postgres_url import secret_parameters

CONNECT_S = 10
LEFT_TO_PSQL = frozenset({"client_encoding"})
"""psql should take the terminal's encoding, not fivrec's."""


@dataclass(frozen=True, slots=True)
class PsqlCall:
    """`environment` holds the password, so that no other user sees it in `ps`."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]


def build_psql_call(
    program: str, url: Secret, more: Sequence[str], environ: Mapping[str, str], application_name: str
) -> PsqlCall:
    """Returns the call that connects to where fivrec itself connects. Raises MissingSetting if the URL can't be used.

    libpq has an environment variable only for the password: psql asks for other secrets, such as a key's passphrase.
    """
    chosen = parameters(url, connect_s=CONNECT_S, application_name=application_name)
    hidden = secret_parameters() | LEFT_TO_PSQL
    conninfo = make_conninfo(**{key: value for key, value in chosen.items() if key not in hidden})
    password = {"PGPASSWORD": str(chosen["password"])} if chosen.get("password") else {}
    return PsqlCall((program, f"--dbname={conninfo}", *more), {**environ, **password})


def find_psql(environ: Mapping[str, str], *, embedded: bool) -> str:
    """Returns the psql on PATH, or for an embedded database the one beside its server. Raises MissingSetting
    `psql_missing` if there is none."""
    found = shutil.which("psql", path=environ.get("PATH", os.defpath))
    if found is None and embedded:
        from reconciler.database.embedded.binaries import find_binaries

        found = shutil.which("psql", path=str(find_binaries(environ).folder))
    if found is None:
        hint = "install PostgreSQL's client programs (postgresql-client), or put their folder into PATH"
        raise MissingSetting("psql is not installed", hint=hint, code="psql_missing")
    return found
