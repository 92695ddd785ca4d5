"""What the caller lets manifests reach: variables, secrets, hosts. Checked before any connection; makes none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from reconciler.manifest.loader import Manifest, problem_at
from reconciler.manifest.secrets.plugins import PLACES
from reconciler.model.errors import DatabaseError, ManifestProblem
from reconciler.model.kinds.setting import reference_of
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import EMBEDDED, is_embedded


@dataclass(frozen=True, slots=True)
class Bounds:
    """Globs of variables and secrets, and names of hosts. If none of a kind is given, everything of that kind is
    allowed; but if variables are bounded, secrets of Vault and of packages are not allowed, because they would be a way
    around the bounds."""

    env: tuple[str, ...] = ()
    connect: tuple[str, ...] = ()
    database: tuple[str, ...] = ()
    secret: tuple[str, ...] = ()


def check_bounds(manifests: Sequence[Manifest], bounds: Bounds) -> Iterator[ManifestProblem]:
    """Returns a problem for each variable and each literal URL of the manifests that is out of bounds. Resolves no
    reference."""
    for manifest in manifests:
        yield from _variables(manifest, bounds)
        yield from _secrets(manifest, bounds)
        for path, value in _literal_urls(manifest.document):
            yield from check_url(manifest, path, value, bounds)


def check_url(manifest: Manifest, path: str, url: str, bounds: Bounds) -> Iterator[ManifestProblem]:
    """Returns a problem if a URL, resolved or literal, leads to a host that is out of bounds. The message repeats
    nothing of the URL."""
    option, allowed = ("database", bounds.database) if path.startswith("database/") else ("connect", bounds.connect)
    if not allowed or url == EMBEDDED or (is_embedded(url) and option == "connect"):
        return
    if is_embedded(url):  # a server's configuration in the author's folder may name programs
        hosts: tuple[str, ...] = (url,)
    else:
        hosts = _database_hosts(url) if option == "database" else (urlsplit(url).hostname or "",)
    known = set(map(_plain, allowed))
    if any(_plain(host) not in known for host in hosts):
        what = "the database's" if option == "database" else "Connect's"
        message = f"{what} host is not one that --allow-{option} names"
        yield problem_at(manifest, path, message, f"allowed: {', '.join(allowed)}")


def _variables(manifest: Manifest, bounds: Bounds) -> Iterator[ManifestProblem]:
    if not bounds.env:
        return
    for path, name in _named_variables(manifest):
        if not any(fnmatchcase(name, glob) for glob in bounds.env):
            message = f"the variable {name} is not one that --allow-env names"
            yield problem_at(manifest, path, message, f"allowed: {', '.join(bounds.env)}")


def _named_variables(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if manifest.environment_variable is not None:
        yield "environment", manifest.environment_variable
    for path, reference in references(manifest.document):
        match reference:
            case {"env": str(name)}:
                yield path, name


def _secrets(manifest: Manifest, bounds: Bounds) -> Iterator[ManifestProblem]:
    if not bounds.env and not bounds.secret:
        return
    for path, reference in references(manifest.document):
        match reference:
            case {"vault": str(place)}:
                name = f"vault:{place}"
            case {"plugin": [str(package), str(value)]}:
                name = f"{package}:{value}"
            case _:
                continue
        steps = re.split("[/#]", name)  # Vault's client reads a/../b as b
        if {".", ".."} & set(steps) or not any(fnmatchcase(name, glob) for glob in bounds.secret):
            allowed = ", ".join(bounds.secret) or "none, as --allow-env is given"
            yield problem_at(manifest, path, f"{name} is not one that --allow-secret names", f"allowed: {allowed}")


def references(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What stands where a reference may be, by its path."""
    if "environment_from" in document:
        yield "environment", document["environment_from"]
    for part, key in PLACES:
        if key in document.get(part, {}):
            yield f"{part}/{key}", document[part][key]
    for name, value in document.get("config", {}).get("settings", {}).items():
        if (reference := reference_of(value)) is not None:
            yield f"config/settings/{name}", reference


def _literal_urls(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for path, value in references(document):
        if path not in ("database/url", "database/provision_url", "config/connect_api_url"):
            continue
        url = value.get("default") if isinstance(value, Mapping) else value
        if isinstance(url, str):
            yield path, url


def _database_hosts(url: str) -> tuple[str, ...]:
    """All hosts that libpq would connect to, from the URL, its service file and PG* variables; localhost if there are
    none."""
    from reconciler.support.conninfo import effective

    try:
        settings = effective(Secret(url))
    except DatabaseError:
        return ()  # an unreadable URL is a problem of its own
    found = [settings.get(key, "") for key in ("host", "hostaddr")]
    if issuer := settings.get("oauth_issuer"):
        found.append(urlsplit(issuer).hostname or issuer)
    named = [host for text in found if text for host in text.split(",")]
    return tuple(host or "localhost" for host in named) or ("localhost",)


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()
