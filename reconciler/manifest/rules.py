"""Rules for one instance's manifest that the schema can't express. Values in, findings out; messages repeat no value.

The only thing that is looked at outside the manifest is where the path of an embedded server leads.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from reconciler.model.kinds import BY_NAME, KINDS
from reconciler.model.kinds.base import Breach
from reconciler.model.types import EMBEDDED, is_embedded
from reconciler.support.postgres_url import MOST_BYTES, form_problem, holds_password, instance_problem, is_cut


def check_rules(document: Mapping[str, Any]) -> Iterator[Breach]:
    """`document` is normalised and valid by the schema, except that required keys may be missing, because invalid ones
    were removed."""
    yield from _check_database(document["database"])
    yield from _check_connect(document)
    for kind in KINDS:
        yield from kind.breaches(document)
    yield from _check_ignore(document["ignore"])


def _check_database(database: Mapping[str, Any]) -> Iterator[Breach]:
    provision = database.get("provision_url")
    if isinstance(provision, str):
        hint = "take it from a variable: {env: PROVISION_URL}"
        if reason := provision_url_problem(provision):
            yield Breach("database/provision_url", f"the provisioning URL {reason}", hint)
        elif holds_password(provision):
            yield Breach("database/provision_url", "the provisioning URL holds a password", hint)
    if reason := schema_problem(database.get("schema", "public")):
        yield Breach("database/schema", f"the schema's name {reason}", "such as public")
    url = database["url"]
    if not isinstance(url, str):
        return
    if reason := database_url_problem(url):
        yield Breach("database/url", f"the database URL {reason}", "write postgresql://user@host/name, or embedded:")
    elif holds_password(url):
        hint = "take the URL from a variable: {env: DATABASE_URL}"
        yield Breach("database/url", "the database URL holds a password", hint)


def schema_problem(name: str) -> str | None:
    """Why the app's tables can't be in a schema of this name, as the end of a sentence, or None."""
    if is_cut(name):
        return f"has more than {MOST_BYTES} bytes, and PostgreSQL cuts it there"
    if name.startswith("pg_") or name in ("fivrec", "information_schema"):
        return "is PostgreSQL's, or fivrec's, own"
    return None


def _check_connect(document: Mapping[str, Any]) -> Iterator[Breach]:
    url, path = document["config"]["connect_api_url"], "config/connect_api_url"
    if isinstance(url, Mapping):
        url, path = url.get("default"), f"{path}/default"
    known = "environment_from" not in document
    name = document["environment"]["name"] if known else "development"  # which refuses nothing that production takes
    if url is not None and (reason := connect_url_problem(url, name)):
        yield Breach(path, f"the Connect URL {reason}", connect_url_hint(url))


def database_url_problem(url: str) -> str | None:
    """What is wrong with a database URL, as the end of a sentence, or None."""
    return instance_problem(url) or (_place_problem(url) if is_embedded(url) else None)


def provision_url_problem(url: str) -> str | None:
    """What is wrong with the URL of the login that makes databases, as the end of a sentence, or None."""
    return "can't be embedded:" if is_embedded(url) else form_problem(url)


def connect_url_problem(url: str, environment: str) -> str | None:
    """What is wrong with a Connect URL, as the end of a sentence, or None. The rule for `embedded:` is applied at
    resolution."""
    if is_embedded(url):
        return _place_problem(url)
    from reconciler.support.network import url_problem

    return url_problem(url, production=environment == "production")


def _place_problem(url: str) -> str | None:
    """A manifest must not choose where on the machine data are created."""
    name = url.removeprefix(EMBEDDED)
    if not name:
        return None
    if not name.isprintable():
        return "holds a control character"
    try:
        place = Path(os.path.realpath(name))
        inside = place.is_relative_to(os.path.realpath("."))
        if stat.S_ISREG(place.stat().st_mode) and place.suffix != ".json":
            return "names a file, where a folder is wanted"
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        return "leads through a file that is no folder"
    except (OSError, ValueError):
        return "names a place that can't be created"
    return None if inside else "leads out of the working directory"


def connect_url_hint(url: str) -> str:
    from reconciler.support.network import url_hint

    return url_hint(url) or "such as https://connect.fiv-app.com"


def _check_ignore(ignored: Sequence[Mapping[str, Any]]) -> Iterator[Breach]:
    for index, entry in enumerate(ignored):
        if "until" in entry and not _is_date(entry["until"]):
            yield Breach(f"ignore/{index}/until", "there is no such day", "write YYYY-MM-DD, such as 2026-12-31")
        kind = entry.get("field", "*").partition("/")[0]
        if not any(mark in kind for mark in "*?[") and kind not in BY_NAME:
            known = ", ".join(sorted(BY_NAME))
            yield Breach(f"ignore/{index}/field", "the field begins with no kind of resource", f"kinds are {known}")


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
