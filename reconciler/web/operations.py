"""The calls of the app's integration API as runs of the engine, each with a manifest narrowed to what the call is
about."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from reconciler.database import accounts
from reconciler.database.purge import read_shown
from reconciler.engine.observe import build_scope, database
from reconciler.engine.production_checks import as_production
from reconciler.engine.purge import count_development_rows, with_purge
from reconciler.engine.reconcile import preview, reconcile
from reconciler.engine.run import Run
from reconciler.engine.setup import Setup
from reconciler.engine.setup import build_desired as desired_of_setup
from reconciler.model.errors import FivrecError, UsageError
from reconciler.model.kinds.config import KIND as CONFIG
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import Desired, Key, Managed, Resource, Value, same
from reconciler.planning.report import DONE, InstanceReport
from reconciler.support.network import url_hint, url_problem


class Owned(FivrecError):
    """The manifest declares this value, so it is changed there. `place` is file:line:column."""

    code = "manifest_owned"

    def __init__(self, what: str, place: str, hint: str = "change it there, or serve --allow-writes") -> None:
        super().__init__(f"{what} is declared by the manifest, {place}", hint=hint)
        self.place = place


@dataclass(frozen=True, slots=True)
class ConfigValues:
    """What a caller wants of the configuration; None leaves a value as the manifest has it."""

    instance_key: Secret | None = None
    connect_api_url: str | None = None
    check_interval_minutes: int | None = None


@dataclass(frozen=True, slots=True)
class SetupValues:
    """What a caller wants of a production instance."""

    company_name: str
    admin_email: str
    admin_password: Secret


async def check_now(desired: Desired, run: Run) -> InstanceReport:
    """One manual status check, recorded; suspended locks, active unlocks."""
    return await reconcile(desired.without_declarations(), replace(run, check_only=True))


async def sync_plans(desired: Desired, run: Run, *, allow_writes: bool) -> InstanceReport:
    """Write Connect's plans into the database, and its status, which needs the row of instance_config; nothing else of
    the manifest."""
    if "plan" in desired.managed and not allow_writes:
        raise Owned("plans", find_declaration(desired, "plans"))
    narrowed = replace(desired.without_declarations(), plans_from_connect=True)
    return await reconcile(narrowed, replace(run, check_only=True))


async def configure(desired: Desired, run: Run, wanted: ConfigValues, *, allow_writes: bool) -> InstanceReport:
    """Write the instance's row of instance_config. Raises Owned if a value differs from the manifest's."""
    given: dict[str, Value] = {
        name: value for name in ConfigValues.__dataclass_fields__ if (value := getattr(wanted, name)) is not None
    }
    declared = _declared_config(desired)
    for name, value in given.items():
        if name in declared and not allow_writes and not CONFIG.same(name, declared[name], value):
            raise Owned(f"config.{name}", find_declaration(desired, f"config/{name}"))
    url = wanted.connect_api_url
    if url is not None and not CONFIG.same("connect_api_url", declared.get("connect_api_url"), url):
        _check_url(url, desired)
    fields = {**declared, **given}
    if missing := [name for name in ("connect_api_url", "instance_key") if fields.get(name) is None]:
        raise UsageError(
            f"config.{missing[0]} is neither in the manifest nor in the request", hint="add it to the request"
        )
    row = Resource(Key("config", desired.instance), {"check_interval_minutes": 60, **fields})
    return await _written(desired, run, {"config": Managed((row,))})


async def setup_production(
    desired: Desired, run: Run, wanted: SetupValues, *, allow_writes: bool
) -> tuple[InstanceReport, Desired]:
    """Create the administrator, company and queues of a production instance; existing rows stay. A development instance
    goes live, and its administrator moves with it, with the given password. Returns also the resulting instance."""
    live = _as_live(desired, allow_writes=allow_writes)
    _check_company(desired, wanted.company_name, allow_writes=allow_writes)
    mover = await _account(desired, run, wanted.admin_email) if live is not desired else None
    account = mover or await _account(live, run, wanted.admin_email)
    setup = Setup(
        instance=desired.instance,
        url=desired.database.url,
        environment="production",
        admin_email=wanted.admin_email,
        admin_name=account.name if account else "Administrador",
        admin_password=wanted.admin_password,
        company_name=wanted.company_name,
    )
    managed = _asked(desired_of_setup(setup).managed, desired, new_password=mover is not None)
    if live is desired:
        return await _written(desired, run, managed), desired
    own = {name: live.managed[name] for name in ("environment", "test_data") if name in live.managed}
    going = replace(live, moves_admin=mover is not None)
    return await _written_as_shown(going, run, {**managed, **own}), live


def _as_live(desired: Desired, *, allow_writes: bool) -> Desired:
    if desired.environment.name == "production":
        return desired
    if not allow_writes:
        hint = "set it to production there and run fivrec apply, or start serve with --allow-writes"
        raise Owned("environment: development", find_declaration(desired, "environment"), hint)
    return as_production(desired)


def _check_company(desired: Desired, name: str, *, allow_writes: bool) -> None:
    rows = desired.managed["setting"].resources if "setting" in desired.managed else ()
    declared = next((row.fields["value"] for row in rows if row.key == Key("setting", "company_name")), name)
    if not allow_writes and not same(declared, name):
        raise Owned("config.company_name", find_declaration(desired, "config/company_name"))


def _asked(defaults: Mapping[str, Managed], desired: Desired, *, new_password: bool) -> dict[str, Managed]:
    """The queues of the call: the manifest's if it declares any, without removing others."""
    admin = defaults["admin"]
    if new_password:
        admin = replace(admin, resources=tuple(replace(row, on_create=frozenset()) for row in admin.resources))
    queues = replace(desired.managed.get("queue", defaults["queue"]), unmanaged="keep")
    return {"admin": admin, "setting": defaults["setting"], "queue": queues}


async def count_test_data(desired: Desired, run: Run) -> InstanceReport:
    """What a deletion of the development rows would delete; its digest allows exactly that."""
    return ensure_done(
        await count_development_rows(with_purge((desired,), "development"), replace(run, check_only=True))
    )


async def name_test_data(desired: Desired, run: Run) -> str:
    """A text that identifies exactly the rows that a deletion would delete now."""
    async with database(desired, run) as conn:
        return await read_shown(conn, build_scope(desired))


async def use_once(desired: Desired, run: Run, token: str, until: int) -> bool:
    """Whether a confirmation is used for the first time; marks it as used."""
    name = f"confirm:{hashlib.sha256(token.encode()).hexdigest()}"
    async with database(desired, run) as conn:
        return await accounts.use_once(conn, build_scope(desired), name, datetime.fromtimestamp(until, UTC))


async def delete_test_data(desired: Desired, run: Run, shown: InstanceReport) -> InstanceReport:
    """Delete the rows that were shown. Raises if they are no longer the same."""
    accept = frozenset({shown.digest} if shown.digest else ())
    narrowed = with_purge((desired,), "development")
    return ensure_done(await reconcile(narrowed, replace(run, check_only=True, accept=accept)))


async def read_mark(desired: Desired, run: Run) -> str:
    """A text that changes whenever something shown of the instance may have changed."""
    async with database(desired, run) as conn:
        return await accounts.read_mark(conn, build_scope(desired))


def find_declaration(desired: Desired, path: str) -> str:
    """file:line:column of a key, or of its nearest parent that is written in the file."""
    origin = desired.origin
    while path and path not in origin.places:
        path = path.rpartition("/")[0]
    line, column = origin.places.get(path, (origin.line, 1))
    return f"{origin.path}:{line}:{column}"


def ensure_done(report: InstanceReport) -> InstanceReport:
    """Returns the report. Raises its error if it did not succeed, or if nothing was written because the manifest is
    suspended."""
    if report.outcome == "skipped":
        raise FivrecError(
            "the manifest says suspend: true: fivrec changes nothing",
            hint="take suspend: true out of it",
            code="suspended_manifest",
        )
    return ensure_checked(report)


def ensure_checked(report: InstanceReport) -> InstanceReport:
    """The same for a status check, which is recorded for a suspended manifest too."""
    if report.exit_code == DONE:
        return report
    error = report.error
    failed = FivrecError(
        error.message if error else f"{report.instance}: {report.outcome}",
        hint=error.hint if error else "",
        code=error.code if error else report.outcome,
    )
    failed.exit_code = report.exit_code
    raise failed


async def _written(desired: Desired, run: Run, managed: Mapping[str, Managed]) -> InstanceReport:
    """Connect is not asked: what is written here is not its answer."""
    return await reconcile(replace(desired, managed=managed, plans_from_connect=False, connect=None, whole=False), run)


async def _written_as_shown(desired: Desired, run: Run, managed: Mapping[str, Managed]) -> InstanceReport:
    """The call is the consent to this plan: changes in it that a guard would refuse are made, and nothing else."""
    narrowed = replace(desired, managed=managed, plans_from_connect=False, connect=None, whole=False)
    shown = await preview(narrowed, run)
    digests = {shown.digest} if shown.digest else set()
    return await reconcile(narrowed, replace(run, accept=run.accept | digests))


def _declared_config(desired: Desired) -> dict[str, Value]:
    managed = desired.managed.get("config")
    return dict(managed.resources[0].fields) if managed and managed.resources else {}


def _check_url(url: str, desired: Desired) -> None:
    problem = url_problem(url, production=desired.environment.name == "production")
    if problem is not None:
        raise UsageError(f"connectApiUrl {problem}", hint=url_hint(url) or "for example https://connect.fiv-app.com")


async def _account(desired: Desired, run: Run, email: str) -> accounts.Account | None:
    """The account with this email in the instance's environment."""
    async with database(desired, run) as conn:
        return await accounts.read_declared_account(conn, build_scope(desired), email)
