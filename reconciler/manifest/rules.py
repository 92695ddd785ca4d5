"""What the schema cannot say of one instance's manifest. Values in, findings out; no value is repeated in words.

Of the world only one thing is looked at: where the path of an embedded server leads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from reconciler.model.names import same_name
from reconciler.model.types import EMBEDDED, is_embedded
from reconciler.support.postgres_url import form_problem, holds_password, instance_problem


class Breach(NamedTuple):
    path: str
    message: str
    hint: str = ""


def check_rules(document: Mapping[str, Any]) -> Iterator[Breach]:
    """`document` is normalised and valid by the schema, but keys that it requires may be missing: pruned ones."""
    yield from _check_database(document["database"])
    yield from _check_connect(document)
    yield from _check_config(document["config"])
    yield from _check_admin(document.get("admin"))
    yield from _check_queues(document.get("queues", {}).get("items", ()))
    yield from _check_plans(document.get("plans", {}).get("items", ()))
    yield from _check_ignore(document["ignore"])


def _check_database(database: Mapping[str, Any]) -> Iterator[Breach]:
    provision = database.get("provision_url")
    if isinstance(provision, str):
        hint = "take it from a variable: {env: PROVISION_URL}"
        if reason := "can't be embedded:" if is_embedded(provision) else form_problem(provision):
            yield Breach("database/provision_url", f"the provisioning URL {reason}", hint)
        elif holds_password(provision):
            yield Breach("database/provision_url", "the provisioning URL holds a password", hint)
    url = database["url"]
    if not isinstance(url, str):
        return
    if reason := database_url_problem(url):
        yield Breach("database/url", f"the database URL {reason}", "write postgresql://user@host/name, or embedded:")
    elif holds_password(url):
        hint = "take the URL from a variable: {env: DATABASE_URL}"
        yield Breach("database/url", "the database URL holds a password", hint)


def _check_connect(document: Mapping[str, Any]) -> Iterator[Breach]:
    url, path = document["config"]["connect_api_url"], "config/connect_api_url"
    if isinstance(url, Mapping):
        url, path = url.get("default"), f"{path}/default"
    if url is not None and (reason := connect_url_problem(url, document["environment"]["name"])):
        yield Breach(path, f"the Connect URL {reason}", connect_url_hint(url))


def database_url_problem(url: str) -> str | None:
    """What is wrong with a database URL, in words that follow it, or None."""
    return instance_problem(url) or (_place_problem(url) if is_embedded(url) else None)


def connect_url_problem(url: str, environment: str) -> str | None:
    """What is wrong with a Connect URL, in words that follow it, or None. `embedded:` has its rule at resolution."""
    if is_embedded(url):
        return _place_problem(url)
    from reconciler.support.network import url_problem

    return url_problem(url, production=environment == "production")


def _place_problem(url: str) -> str | None:
    """A manifest must not choose where on the machine data are made."""
    name = url.removeprefix(EMBEDDED)
    try:
        inside = Path(os.path.realpath(name)).is_relative_to(os.path.realpath("."))
    except (OSError, ValueError):
        inside = False
    return None if inside or not name else "leads out of the working directory"


def connect_url_hint(url: str) -> str:
    from reconciler.support.network import url_hint

    return url_hint(url) or "such as https://connect.fiv-app.com"


def _check_config(config: Mapping[str, Any]) -> Iterator[Breach]:
    if "company_name" in config and "company_name" in config["settings"]:
        hint = "keep config.company_name"
        yield Breach("config/settings/company_name", "company_name is declared twice", hint)


def _check_admin(admin: Mapping[str, Any] | None) -> Iterator[Breach]:
    if admin is not None and "email" in admin and admin.get("renamed_from") == admin["email"]:
        yield Breach("admin/renamed_from", "renamed_from is the email itself", "take renamed_from out")


def _check_queues(queues: Sequence[Mapping[str, Any]]) -> Iterator[Breach]:
    names = [None if "name" not in queue else same_name(queue["name"]) for queue in queues]
    yield from _check_twice("queues/items", "name", names, "queues")
    old_names: set[str] = set()
    for index, queue in enumerate(queues):
        old, path = queue.get("renamed_from"), f"queues/items/{index}/renamed_from"
        if old is None:
            continue
        old = same_name(old)
        if old == names[index]:
            yield Breach(path, "renamed_from is the queue's own name", "take renamed_from out")
        elif old in names:
            yield Breach(path, "renamed_from names a queue that is declared as well", "keep one of the two")
        elif old in old_names:
            yield Breach(path, "two queues are renamed from one name", "keep one of the two")
        old_names.add(old)


def _check_plans(plans: Sequence[Mapping[str, Any]]) -> Iterator[Breach]:
    yield from _check_twice("plans/items", "id", [plan.get("id") for plan in plans], "plans")


def _check_twice(path: str, key: str, names: Sequence[str | None], what: str) -> Iterator[Breach]:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name is None:
            continue
        if (before := first.setdefault(same_name(name), index)) != index:
            message = f'two {what} have the {key} "{name[:60]}" (entries {before + 1} and {index + 1})'
            yield Breach(f"{path}/{index}/{key}", message, "rename one, or keep one of the two")


def _check_ignore(ignored: Sequence[Mapping[str, Any]]) -> Iterator[Breach]:
    for index, entry in enumerate(ignored):
        if "until" in entry and not _is_date(entry["until"]):
            yield Breach(f"ignore/{index}/until", "there is no such day", "write YYYY-MM-DD, such as 2026-12-31")
        kind = entry.get("field", "*").partition("/")[0]
        if not any(mark in kind for mark in "*?[") and kind not in _kinds():
            known = ", ".join(sorted(_kinds()))
            yield Breach(f"ignore/{index}/field", "the field begins with no kind of resource", f"kinds are {known}")


def _kinds() -> frozenset[str]:
    from reconciler.model.kinds import BY_NAME

    return frozenset(BY_NAME)


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
