"""Options of `fivrec serve` for one login for the fleet, and their values."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from reconciler.cli.options import combine
from reconciler.model.errors import MissingSetting, UsageError, extra_hint
from reconciler.model.secret import Secret

if TYPE_CHECKING:
    from reconciler.web.service import Service

SECRET = "FIVREC_OIDC_CLIENT_SECRET"  # noqa: S105 (a variable's name)
SECRET_FILE = "FIVREC_OIDC_CLIENT_SECRET_FILE"  # noqa: S105
_FILE_LIMIT = 16 * 1024


sign_in_options = combine(
    click.option(
        "--oidc-issuer",
        metavar="URL",
        help="One login for the fleet, at this OpenID Connect provider (extra oidc).",
    ),
    click.option("--oidc-client-id", metavar="ID", help="The name by which the provider knows this server."),
    click.option(
        "--role",
        multiple=True,
        metavar="ROLE=GROUP",
        help="viewer=GROUP: members of the group may look; operator=GROUP: they may check, too. Repeatable.",
    ),
    click.option(
        "--oidc-groups-claim",
        default="groups",
        show_default=True,
        metavar="NAME",
        help="The ID token's claim that names the person's groups.",
    ),
    click.option(
        "--source-url",
        metavar="URL",
        help="Where the repository shows files, to link manifests: https://…/blob/main, or with {path} and {line}.",
    ),
)


def check_sign_in(options: dict[str, Any]) -> None:
    """Raises UsageError if its options don't belong together, MissingSetting without the extra."""
    source_url = options["source_url"]
    if options["oidc_issuer"] is None:
        for name, value in (("--oidc-client-id", options["oidc_client_id"]), ("--role", options["role"])):
            if value:
                raise UsageError(f"{name} needs --oidc-issuer")
        if source_url:
            raise UsageError("--source-url needs --oidc-issuer: the fleet's page has the links")
        return
    if not options["oidc_client_id"] or not options["role"]:
        raise UsageError("--oidc-issuer needs --oidc-client-id and one --role at least")
    if source_url and urlsplit(source_url).scheme not in ("http", "https"):
        raise UsageError(f'--source-url "{source_url}" is not an https URL')
    try:
        import authlib  # noqa: F401 (asked for early, as the other extras are)
        import joserfc  # noqa: F401
    except ImportError as exc:
        raise MissingSetting("--oidc-issuer needs the extra oidc", hint=extra_hint("api", "oidc")) from exc
    from reconciler.web.oidc import check_issuer
    from reconciler.web.roles import rule_from_text

    check_issuer(options["oidc_issuer"])
    rule_from_text(options["role"], options["oidc_groups_claim"])


def with_sign_in(service: Service, options: dict[str, Any], paths: tuple[str, ...]) -> Service:
    """The service with one login for its fleet, if the options have one."""
    if options["oidc_issuer"] is None:
        return service
    from reconciler.web.fleet_access import FleetAccess
    from reconciler.web.fleet_items import SourceLinks
    from reconciler.web.fleet_sessions import FleetSessions
    from reconciler.web.oidc import Client, Provider
    from reconciler.web.roles import rule_from_text

    run, tokens = service.run, service.tokens
    client = Client(options["oidc_issuer"], options["oidc_client_id"], client_secret(os.environ), run.ca_file)
    links = SourceLinks(options["source_url"], repository_root(paths)) if options["source_url"] else None
    access = FleetAccess(
        provider=Provider(client, run.now),
        rule=rule_from_text(options["role"], options["oidc_groups_claim"]),
        sessions=FleetSessions(tokens.now, tokens.digest, service.secure),
        links=links,
        paths=paths,
    )
    return replace(service, fleet=access)


def client_secret(environ: Any) -> Secret | None:
    """The secret from the variable, or from the file that the other variable names; None: a public client."""
    if text := environ.get(SECRET, ""):
        return Secret(text)
    name = environ.get(SECRET_FILE, "")
    if not name:
        return None
    try:
        with Path(name).open(encoding="utf-8") as file:
            text = file.read(_FILE_LIMIT).strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise MissingSetting(
            f"the file that {SECRET_FILE} names can't be read", hint="make it readable for fivrec's user"
        ) from exc
    if not text:
        raise MissingSetting(f"the file that {SECRET_FILE} names is empty")
    return Secret(text)


def repository_root(paths: Sequence[str]) -> str:
    """The repository that contains the manifests, since a service's working directory is rarely in it; otherwise this
    folder."""
    here = Path.cwd()
    starts = [Path(os.path.abspath(path)) for path in paths if path != "-"]  # noqa: PTH100 (no link is followed)
    places = (place for start in (*starts, here) for place in (start, *start.parents))
    return str(next((place for place in places if (place / ".git").exists()), here))
