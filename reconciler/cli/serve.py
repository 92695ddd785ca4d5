"""`fivrec serve`: the app's integration API and the status page."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.collector import collect
from reconciler.cli.notifying import Receivers, beside_server
from reconciler.cli.options import KEPT_CONNECTIONS, manifest_options, receiver_options, settings_from
from reconciler.cli.serve_sign_in import check_sign_in, sign_in_options, with_sign_in
from reconciler.cli.signals import outlive_hangup
from reconciler.model.errors import MissingSetting, extra_hint
from reconciler.support.log import Patience

if TYPE_CHECKING:
    from reconciler.cli.runtime import RunSetup
    from reconciler.support.asgi_server import Listen
    from reconciler.web.service import Service
    from reconciler.web.status_service import StatusService


@click.command("serve")
@manifest_options("text")
@click.option("--listen", default="127.0.0.1:5000", show_default=True, metavar="HOST:PORT", help="Where to listen.")
@click.option("--tls-cert", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Certificate, PEM.")
@click.option("--tls-key", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Its key, PEM.")
@click.option(
    "--trust-proxy",
    multiple=True,
    metavar="ADDRESS",
    help="A proxy (address or network) whose X-Forwarded headers to believe; clients reach it by https. Repeatable.",
)
@sign_in_options
@receiver_options
@click.option("--allow-writes", is_flag=True, help="Let calls change what manifests own.")
@click.option(
    "--checks/--no-checks",
    default=True,
    show_default=True,
    help="Check the instances' status at the start and every check_interval_minutes. Turn it off if a watch does that.",
)
def command(**options: Any) -> None:
    """Serve the app's integration API and the status page, and check the instances' status as the app does.

    Each instance is checked at the start and then every check_interval_minutes, recorded, with lock and unlock; nothing
    else of its manifest is applied. --no-checks leaves that to a watch. Changed manifests are picked up.

    Tokens are signed with FIVREC_JWT_KEY (32 bytes or more; several, comma-separated: the first signs, all are
    accepted). With one instance the API is at /api, with several at /instances/ID/api; /openapi.json describes it,
    /docs shows it. Ends on SIGINT or SIGTERM.

    With --oidc-issuer members of a --role's group sign in once for the whole fleet; a client secret is taken from
    FIVREC_OIDC_CLIENT_SECRET or a file named by FIVREC_OIDC_CLIENT_SECRET_FILE.

    Example: fivrec serve manifests/client.yaml --listen 127.0.0.1:5000
    """
    try:
        import jwt  # noqa: F401 (asked for early: without it nothing below works)
        import starlette  # noqa: F401
    except ImportError as exc:
        raise MissingSetting("serve needs the extra api", hint=extra_hint("api")) from exc
    from reconciler.cli.runtime import find_known, open_log, resolution_of, resolve_some, start_servers
    from reconciler.cli.watch_service import manifest_source, resolver
    from reconciler.support.asgi_server import listen_from_text
    from reconciler.web.status_service import StatusService

    outlive_hangup()
    settings = settings_from(options)
    receivers = Receivers.of(options["notify_url"], options["notify"])
    check_sign_in(options)
    tls = (options["tls_cert"], options["tls_key"])
    listen = listen_from_text(options["listen"], *tls, proxies=options["trust_proxy"], what="passwords and tokens")
    log = replace(open_log(settings), patience=Patience())
    source = manifest_source(settings, resolved_later=True)
    resolution = resolution_of(settings)
    desired, incomplete = resolve_some(source.held, settings)
    for item in incomplete:
        said = f"❌ not served until it has it: {item.error.message}"
        log.error("serve", said, instance=item.manifest.instance, error=item.error.code)
    with start_servers(desired, settings, "serve", log, service=True) as ready:
        service = with_sign_in(_service(ready, listen, allow_writes=options["allow_writes"]), options, settings.paths)
        lacking = {item.manifest.instance: (item.manifest, item.error, find_known(item)) for item in incomplete}
        beside = StatusService(service, source, resolver(resolution, ready), settings.forks, options["checks"], lacking)
        stopped = _serve(service, listen, beside, receivers)
    click.get_current_context().exit(128 + stopped if stopped else 0)


def _service(ready: RunSetup, listen: Listen, *, allow_writes: bool) -> Service:
    from reconciler.database.pool import ConnectionPool
    from reconciler.web.service import Service
    from reconciler.web.token_keys import reread_token_keys
    from reconciler.web.tokens import Tokens

    # Created beside the database only if every database is embedded: otherwise they are the operator's.
    said = partial(ready.run.log.warning, "serve", error="key_files")
    keys = reread_token_keys(os.environ, ready.beside, said)
    if keys.made:
        ready.run.log.info("serve", f"🔐 made a key for tokens, beside the embedded database: {keys.made}")
    return Service(
        instances={item.instance: item for item in ready.desired},
        run=replace(ready.run, pool=ConnectionPool(kept=KEPT_CONNECTIONS)),
        tokens=Tokens(keys, ready.run.now),
        allow_writes=allow_writes,
        secure=listen.cert is not None or bool(listen.proxies),
    )


def _serve(service: Service, listen: Listen, beside: StatusService, receivers: Receivers) -> int:
    from reconciler.cli.watch_service import say_broken
    from reconciler.support.asgi_server import AppServer, bound_socket
    from reconciler.web.app import build_app

    log = service.run.log
    app = build_app(service)

    async def serve(server: AppServer, on_hup: Callable[[], None]) -> int:
        stop = asyncio.Event()
        async with beside_server(receivers, beside) as checks:
            say_broken(beside.source, log)
            checking = asyncio.create_task(checks.run(stop))
            try:
                return await server.run_until_signal(on_hup)
            finally:
                stop.set()
                await checking

    with bound_socket(listen) as bound:
        server = AppServer(
            app,
            listen,
            bound,
            lambda url: log.info("serve", f"🚀 Fi.V App integration API and status page on {url}"),
            on_stop=app.state.stop,
            log=log,
            lifespan="on",
        )
        collect()
        said = "🔄 SIGHUP: keys and certificates are read again"
        return asyncio.run(serve(server, partial(log.info, "reload", said)))
