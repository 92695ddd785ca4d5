"""The endpoints: each is a thin call into the engine, with an answer as in the OpenAPI document."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from reconciler.database.status_queries import LogFilter, StatusView
from reconciler.engine import status_and_logs, usage
from reconciler.engine.purge import counts
from reconciler.engine.setup import read_made, set_password
from reconciler.model.changes import Create, Deactivate, Update
from reconciler.model.errors import FivrecError
from reconciler.model.passwords import unfit
from reconciler.model.secret import Secret
from reconciler.model.types import canonical
from reconciler.web import login as access
from reconciler.web import operations, responses
from reconciler.web.calls import Answer, Call, Endpoint, Rules
from reconciler.web.problems import BadRequest, ConfirmationRequired
from reconciler.web.responses import etag_of, matches
from reconciler.web.tokens import LIFE_S

CONFIRM_S = 300


async def health(call: Call) -> Answer:  # noqa: ARG001 (an endpoint's signature)
    return Answer({"status": "ok"})


async def login(call: Call) -> Answer:
    given = access.Credentials(call.body["email"], Secret(call.body["password"]), call.address)
    account = await access.log_in(call.desired, call.run, given, call.service.limit, call.service.attempts)
    token = call.service.tokens.issue_bearer(call.desired, account)
    return Answer({"token": token, "tokenType": "Bearer", "expiresIn": LIFE_S})


async def logout(call: Call) -> Answer:
    assert call.bearer is not None  # noqa: S101 (not a public operation)
    await access.give_back(call.desired, call.run, call.bearer.jti, call.bearer.expires_at)
    return Answer(None, 204)


async def plans(call: Call) -> Answer:
    return Answer([responses.plan(found) for found in await status_and_logs.fetch_plans(call.desired, call.run)])


async def databases(call: Call) -> Answer:
    return Answer(
        [responses.database(found) for found in await status_and_logs.fetch_databases(call.desired, call.run)]
    )


async def sync_plans(call: Call) -> Answer:
    accept = frozenset({call.body["accept"]} if "accept" in call.body else ())
    run = replace(call.run, accept=accept)
    report = await operations.sync_plans(call.desired, run, allow_writes=call.service.allow_writes)
    operations.ensure_done(report)
    made = [change for change in report.changes if change.key.kind == "plan"]
    known = report.connect.plans if report.connect and report.connect.plans else ()
    return Answer(
        {
            "success": True,
            "created": sum(isinstance(change, Create) for change in made),
            "updated": sum(isinstance(change, Update) for change in made),
            "deactivated": sum(isinstance(change, Deactivate) for change in made),
            "plans": [responses.plan(found) for found in known],
        }
    )


async def report_usage(call: Call) -> Answer:
    done = await usage.report_usage(call.desired, call.run)
    return Answer({"success": True, "reportId": done.id, "sent": done.sent, "report": dict(done.payload)})


async def config(call: Call) -> Answer:
    shown = responses.config(await _known(call), call.desired)
    return Answer(shown, headers={"ETag": _etag(shown)})


async def configure(call: Call) -> Answer:
    body = call.body
    if body["instanceId"] != call.desired.instance:
        raise operations.Owned("instance", operations.find_declaration(call.desired, "instance"))
    minutes = body.get("checkIntervalMinutes")
    wanted = operations.ConfigValues(
        instance_key=Secret(body["instanceKey"]) if "instanceKey" in body else None,
        connect_api_url=body.get("connectApiUrl"),
        check_interval_minutes=None if minutes is None else int(minutes),
    )
    async with call.service.one_writer(call.desired):
        if call.if_match is not None and not matches(call.if_match, (await config(call)).headers["ETag"]):
            raise FivrecError(
                "the configuration was changed since it was read", hint="GET it again", code="config_changed"
            )
        report = await operations.configure(call.desired, call.run, wanted, allow_writes=call.service.allow_writes)
        operations.ensure_done(report)
        return await config(call)


def _etag(shown: Mapping[str, Any]) -> str:
    """The version of what can be configured and of Connect's status; the time of the last check does not count."""
    return etag_of(canonical({name: value for name, value in shown.items() if name != "lastStatusCheck"}))


async def check_status(call: Call) -> Answer:
    report = operations.ensure_checked(await operations.check_now(call.desired, call.run))
    view = await _known(call)
    if report.connect is None or report.connect.status is None:
        raise FivrecError("the manifest names no Connect", hint="set config.connect_api_url", code="missing_setting")
    took = report.connect.response_time_ms
    return Answer(responses.check(report.connect.status, locked=bool(view.is_locked), took_ms=took, at=call.run.now()))


async def status_logs(call: Call) -> Answer:
    query = call.query
    wanted = LogFilter(
        since=datetime.fromisoformat(query["since"]) if query["since"] else None,
        check_type=query["type"],
        failed=query["failed"],
        limit=query["limit"] + 1,
        before=responses.row_at(query["before"]) if query["before"] else None,
    )
    rows = await call.service.checks(call.desired, wanted)
    shown = rows[: query["limit"]]
    headers = {"Link": _next_page(call, responses.build_cursor(shown[-1]))} if len(rows) > len(shown) else {}
    return Answer([responses.status_log(row) for row in shown], headers=headers)


async def setup_production(call: Call) -> Answer:
    body, password = call.body, Secret(call.body["adminPassword"])
    if (reason := unfit(password)) is not None:
        raise BadRequest([("adminPassword", reason)])
    wanted = operations.SetupValues(body["companyName"], body["adminEmail"], password)
    report, live = await operations.setup_production(
        call.desired, call.run, wanted, allow_writes=call.service.allow_writes
    )
    operations.ensure_done(report)
    call.service.take_up(live)
    company, queues = await read_made(live, call.run)
    note = ""
    if live is not call.desired:
        place = operations.find_declaration(call.desired, "environment")
        note = f"{place} still says development: set it to production there, until then fivrec apply refuses it"
    kept = not set_password(report)
    now = call.run.now()
    return Answer(responses.setup(body["adminEmail"], company, queues, now, password_kept=kept, note=note))


async def clear_development_data(call: Call) -> Answer:
    async with call.service.one_writer(call.desired):
        shown = await operations.count_test_data(call.desired, call.run)
        rows = await operations.name_test_data(call.desired, call.run)
        found, given = counts(shown), call.query["confirm"]
        if not given or not await _is_confirmed(call, rows, given):
            raise ConfirmationRequired(found, _confirmation(call, rows, int(time.time()) + CONFIRM_S))
        if found:
            await operations.delete_test_data(call.desired, call.run, shown)
    return Answer({"success": True, "deleted": dict(found)})


async def _known(call: Call) -> StatusView:
    view = await status_and_logs.query_status(call.desired, call.run)
    if view is None or not view.configured:
        raise FivrecError(
            f'Instance not configured: "{call.desired.instance}" has no row in instance_config',
            hint="POST /api/instance/config, or run fivrec apply",
            code="instance_not_configured",
        )
    return view


def _next_page(call: Call, cursor: str) -> str:
    kept = {name: str(value).lower() if value is True else value for name, value in call.query.items() if value}
    query = urlencode({**kept, "before": cursor})
    return f'<{call.service.prefix(call.desired.instance)}{call.path}?{query}>; rel="next"'


def _confirmation(call: Call, rows: str, until: int) -> str:
    return f"{until}.{call.service.tokens.digest(*_of_confirmation(call, rows, until))}"


def _of_confirmation(call: Call, rows: str, until: int) -> tuple[str, ...]:
    """The instance, the rows shown, the caller and a time."""
    return ("confirm", call.desired.instance, call.account.id if call.account else "", rows, str(until))


async def _is_confirmed(call: Call, rows: str, given: str) -> bool:
    """Whether these are the rows that were shown to this caller, and the token was not used before."""
    until, _, digest = given.partition(".")
    if not until.isdigit() or len(until) > 12 or int(until) < time.time():  # noqa: PLR2004 (digits of a time)
        return False
    if not call.service.tokens.is_digest(digest, *_of_confirmation(call, rows, int(until))):
        return False
    return await operations.use_once(call.desired, call.run, given, int(until))


ENDPOINTS: Mapping[str, tuple[Endpoint, Rules]] = {
    "health": (health, Rules()),
    "login": (login, Rules(open_when_locked=True)),
    "logout": (logout, Rules(audited=True)),
    "plans": (plans, Rules()),
    "databases": (databases, Rules()),
    "syncPlans": (sync_plans, Rules(audited=True)),
    "reportUsage": (report_usage, Rules(audited=True)),
    "config": (config, Rules()),
    "configure": (configure, Rules(audited=True, makes_schema=True)),
    "checkStatus": (check_status, Rules(open_when_locked=True, audited=True)),
    "statusLogs": (status_logs, Rules(open_when_locked=True)),
    "setupProduction": (setup_production, Rules(audited=True, makes_schema=True)),
    "clearDevelopmentData": (clear_development_data, Rules(audited=True)),
}
"""By the document's operationId. `login` audits itself, including failures."""
