"""Resolve references: from manifests to Desired, with secrets in their own type. Writes nothing and makes no
connection.

Resolves only what a command needs. All missing values are named together, and so are all that do not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import field, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from reconciler.manifest.bounds import Bounds, check_bounds, check_url, references
from reconciler.manifest.loader import Manifest, problem_at
from reconciler.manifest.missing import LISTED, SET_MISSING, Missing, build_missing_error
from reconciler.manifest.rendering import ENVIRONMENTS
from reconciler.manifest.rules import (
    check_rules,
    connect_url_hint,
    connect_url_problem,
    database_url_problem,
    provision_url_problem,
)
from reconciler.manifest.secrets.generated_password import password_path, read_or_make, write_password
from reconciler.manifest.secrets.sources import COMMAND_S, Sources, describe, name_source
from reconciler.model.errors import FivrecError, ManifestError, ManifestProblem, MissingSetting, SourceError
from reconciler.model.json_pointer import escape
from reconciler.model.kinds import KINDS
from reconciler.model.kinds.setting import reference_of
from reconciler.model.passwords import unfit
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret
from reconciler.model.types import (
    BCRYPT_COST,
    EMBEDDED,
    SURROGATES,
    ConnectTarget,
    DatabaseSpec,
    Desired,
    EnvironmentSpec,
    Ignore,
    Managed,
    is_embedded,
)
from reconciler.support.postgres_url import Identity, database_identity, environment_problem

NAMES = "let it name production or development"
_SLOW = frozenset({"command", "vault", "plugin"})

Need: TypeAlias = Literal["database", "connect", "admin", "provision"]


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the command line allows references to do, and where generated passwords are kept."""

    work_dir: Path = Path(".fivrec")
    secrets_dir: Path | None = None
    allow_command: tuple[str, ...] = ()
    allow_embedded: bool = False
    bounds: Bounds = Bounds()
    command_s: float = COMMAND_S


class Incomplete(NamedTuple):
    """A manifest that can't be resolved, and why: MissingSetting or ManifestError. `known`: what its status check and
    the record of its failure need, if that much could be resolved."""

    manifest: Manifest
    error: FivrecError
    known: Desired | None = None


@dataclass(frozen=True, slots=True)
class _Values:
    """One instance's resolved values; None for those that were not needed."""

    database: Secret | None = None
    api_url: str | None = None
    instance_key: Secret | None = None
    password: Secret | None = None
    generated: str | None = None
    generated_new: bool = False
    provision: Secret | None = None
    settings: Mapping[str, Secret] = field(default_factory=dict)


def resolve(
    manifests: Sequence[Manifest], *, needs: frozenset[Need], environ: Mapping[str, str], resolution: Resolution
) -> tuple[Desired, ...]:
    """Returns one Desired per manifest, in order. Raises ManifestError for values that do not fit, with the position of
    their reference; otherwise MissingSetting, naming everything that is missing."""
    found = _resolve_values(manifests, needs, environ, resolution)
    problems = [problem for one in found for problem in one.problems]
    problems.extend(_shared_databases(found))
    if problems:
        raise ManifestError(tuple(problems))
    if missing := [lack for one in found for lack in one.missing]:
        raise build_missing_error(missing)
    return tuple(_desired(one.manifest, one.found, needs) for one in found)


def resolve_each(
    manifests: Sequence[Manifest],
    *,
    needs: frozenset[Need],
    environ: Mapping[str, str],
    resolution: Resolution,
    apart: bool = False,
) -> tuple[Desired | Incomplete, ...]:
    """Like `resolve`, but what one manifest lacks affects only that instance. Raises ManifestError for two instances on
    one database; with `apart` only those two are left out."""
    found = _resolve_values(manifests, needs, environ, resolution)
    if apart:
        shared = [*_shared_databases(found), *_shared_databases(found[::-1])]  # each problem names the other instance
        for one in found:
            one.problems.extend(problem for problem in shared if problem.instance == one.manifest.instance)
    elif shared := list(_shared_databases(found)):
        raise ManifestError(tuple(shared))
    return tuple(_desired_or_incomplete(one, needs) for one in found)


def resolve_databases(
    manifests: Sequence[Manifest], *, environ: Mapping[str, str], resolution: Resolution
) -> tuple[Secret | None, ...]:
    """Each manifest's database URL, whatever else it lacks; None if that can't be had."""
    found = _resolve_values(manifests, frozenset({"database"}), environ, resolution)
    return tuple(one.found.database for one in found)


def _desired_or_incomplete(one: _Resolving, needs: frozenset[Need]) -> Desired | Incomplete:
    if one.problems:
        return Incomplete(one.manifest, ManifestError(tuple(one.problems)))
    if one.missing:
        error = build_missing_error(one.missing, of_one=True)
        return Incomplete(one.manifest, error, _known(one, needs, error))
    return _desired(one.manifest, one.found, needs)


def _known(one: _Resolving, needs: frozenset[Need], error: FivrecError) -> Desired | None:
    """Returns None if it is not known which database is meant, or which environment's rows in it."""
    lacking = {lack.key for lack in one.missing}
    if one.found.database is None or lacking & {"database.url", "environment"}:
        return None
    found = _desired(one.manifest, one.found, needs)
    connect = None if lacking & {"config.connect_api_url", "config.instance_key"} else found.connect
    return replace(found.without_declarations(), usage_report=False, connect=connect, lacks=error)


def _resolve_values(
    manifests: Sequence[Manifest], needs: frozenset[Need], environ: Mapping[str, str], resolution: Resolution
) -> list[_Resolving]:
    sources = Sources(environ, resolution.secrets_dir, resolution.allow_command, resolution.command_s)
    found: list[_Resolving] = []
    try:
        for manifest in manifests:
            resolving = _Resolving(manifest, sources, resolution)
            found.append(resolving)
            # A URL that is out of bounds is not even read: the way it fails could reveal its content.
            resolving.problems.extend(check_bounds((manifest,), resolution.bounds))
            if not resolving.problems:
                resolving.found = resolving.values(needs)
    finally:
        sources.close()
    return found


def asks_others(manifest: Manifest) -> bool:
    """Whether resolving it waits for a program, a server or a package: then it runs in a thread of its own."""
    declared = (value for _, value in references(manifest.document))
    return any(not _SLOW.isdisjoint(reference) for reference in declared if isinstance(reference, Mapping))


def write_generated(desired: Desired) -> None:
    """Keep a new generated password in its file before the commit; the caller reports the path."""
    if desired.generated is None or not desired.generated_new:
        return
    (admin,) = desired.managed["admin"].resources
    password = admin.fields["password"]
    assert isinstance(password, Secret)  # noqa: S101  generated_new says so
    write_password(Path(desired.generated), password)


@dataclass(slots=True)
class _Resolving:
    """Resolves one instance: its values, and its problems."""

    manifest: Manifest
    sources: Sources
    resolution: Resolution
    problems: list[ManifestProblem] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    found: _Values = field(default_factory=_Values)
    unsaid: str = ""
    """Why the environment is a default."""

    def values(self, needs: frozenset[Need]) -> _Values:
        if needs and not self._find_environment():
            return _Values()
        if self.manifest.unset is not None:
            words = f"the variable {self.manifest.unset} is not set"
            hint = f"{SET_MISSING}, or give the reference a default"
            self._miss("environment", words, hint, {"env": self.manifest.unset})
        database = self._database() if "database" in needs else None
        url = database.reveal() if database is not None else self._known_database()
        if url is None and "database" in needs:
            url = ""  # the URL is missing, and the real one is hardly embedded
        self._check_environment_is_said(url)
        api_url = self._api_url() if "connect" in needs else None
        key = self._instance_key(api_url) if "connect" in needs else None
        provision = self._provision() if "provision" in needs else None
        if (
            provision
            and database
            and database_identity(provision.reveal()) == database_identity(database.reveal()) is not None
        ):
            message = "the database URL leads to the database that the provisioning URL names"
            self._misfit("database/url", message, "give the instance a database of its own")
        if "admin" not in needs:
            return _Values(database, api_url, key, provision=provision)
        password = self._password() if "admin" in self.manifest.document else (None, None, False)
        return _Values(database, api_url, key, *password, provision=provision, settings=self._secret_settings())

    def _known_database(self) -> str | None:
        """The database's URL for a command that does not need it: runs nothing, and nothing counts as missing."""
        declared = self.manifest.document["database"]["url"]
        if isinstance(declared, str) or "command" in declared:
            return declared if isinstance(declared, str) else None
        with suppress(SourceError):
            return self.sources.fetch(declared, self.manifest.folder) or declared.get("default")
        return None

    def _find_environment(self) -> bool:
        """Ask what names the environment, if no variable does, and go by the manifest of that one. False if it does
        not fit that one."""
        reference = self.manifest.document.get("environment_from")
        if reference is None:
            return True
        try:
            name = self.sources.fetch(reference, self.manifest.folder)
        except SourceError as exc:
            self._say("environment", exc)
            return True
        if name is None and "default" in reference:
            self.unsaid, name = describe(reference), reference["default"]
        if name is None:
            hint = f"{SET_MISSING}, or give the reference a default"
            self._miss("environment", describe(reference), hint, reference)
        elif name not in ENVIRONMENTS:
            self._misfit("environment", f"{name_source(reference)} names no environment", NAMES)
        else:
            said = "default" if self.unsaid else name_source(reference)
            try:
                self.manifest = (self.manifest.in_environment or self._stored_in)(name, said)
            except ManifestError as exc:
                self.problems.extend(exc.problems)
                return False
        return True

    def _stored_in(self, name: str, _: str) -> Manifest:
        """The manifest in that environment, if all that is left of it is its document."""
        own = ("environment_from", "environment_read")
        document = {key: value for key, value in self.manifest.document.items() if key not in own}
        document["environment"] = {**document["environment"], "name": name}
        found = [problem_at(self.manifest, *breach) for breach in check_rules(document)]
        if "environment_read" in self.manifest.document:
            words = "templates read the environment, and in a stored manifest they are rendered without it"
            hint = "give the worker the manifests' PATH, or name the environment by {env: …}"
            found.append(problem_at(self.manifest, "environment", words, hint))
        if found:
            raise ManifestError(tuple(found))
        return replace(self.manifest, document=document)

    def _environment(self) -> str:
        """As long as it is not known, the one that refuses nothing that the other takes."""
        document = self.manifest.document
        return "development" if "environment_from" in document else str(document["environment"]["name"])

    def _check_environment_is_said(self, database: str | None) -> None:
        """Report an environment that is only a default, outside of trials: it decides which rows are managed."""
        variable = self.manifest.document.get("environment_unsaid")
        unsaid = f"the variable {variable} is not set" if variable is not None else self.unsaid
        if not unsaid or database is None or is_embedded(database):
            return
        name = self.manifest.document["environment"]["name"]
        words = f"{unsaid}, and a default ({name}) counts only with an embedded database"
        hint = f"set {variable} to production or development" if variable is not None else NAMES
        place = problem_at(self.manifest, "environment", f"environment: {words}", hint)
        self.missing.append(Missing(self.manifest.instance, "environment", words, hint, unsaid=True, place=place))

    def _secret_settings(self) -> dict[str, Secret]:
        found: dict[str, Secret] = {}
        for name, declared in self.manifest.document["config"]["settings"].items():
            reference = reference_of(declared)
            if reference is None:
                continue
            path = f"config/settings/{escape(name)}"
            value = self._value(path, reference)
            if value is not None and ("\x00" in value or SURROGATES.search(value)):
                self._misfit(path, "the secret holds a NUL or is not UTF-8", "choose another one")
            elif value is not None:
                found[name] = Secret(value)
        return found

    def _database(self) -> Secret | None:
        value = self._value("database/url", self.manifest.document["database"]["url"])
        if value is None:
            return None
        if reason := database_url_problem(value):
            self._misfit("database/url", f"the database URL {reason}", "write postgresql://user:password@host/name")
            return None
        if reason := environment_problem(value):
            self._miss("database/url", reason, "correct it there, or take it out")
        self.problems.extend(check_url(self.manifest, "database/url", value, self.resolution.bounds))
        return Secret(value) if self._may_be_embedded("database/url", value) else None

    def _provision(self) -> Secret | None:
        """Returns None if it is unset: it is needed only if the database is missing, and is reported then."""
        declared = self.manifest.document["database"].get("provision_url")
        if declared is None:
            return None
        try:
            value = declared if isinstance(declared, str) else self.sources.fetch(declared, self.manifest.folder)
        except SourceError as exc:
            self._say("database/provision_url", exc)
            return None
        if value is None:
            return None
        if reason := provision_url_problem(value):
            hint = "write postgresql://login:password@host/postgres"
            self._misfit("database/provision_url", f"the provisioning URL {reason}", hint)
        self.problems.extend(check_url(self.manifest, "database/provision_url", value, self.resolution.bounds))
        return Secret(value)

    def _api_url(self) -> str | None:
        value = self._value("config/connect_api_url", self.manifest.document["config"]["connect_api_url"])
        if value is None or not self._may_be_embedded("config/connect_api_url", value):
            return None
        if reason := connect_url_problem(value, self._environment()):
            self._misfit("config/connect_api_url", f"the Connect URL {reason}", connect_url_hint(value))
            return None
        self.problems.extend(check_url(self.manifest, "config/connect_api_url", value, self.resolution.bounds))
        return value

    def _instance_key(self, api_url: str | None) -> Secret | None:
        reference = self.manifest.document["config"]["instance_key"]
        value = self._value("config/instance_key", reference)
        if value is None:
            return None
        if value == EMBEDDED:
            if api_url is not None and not is_embedded(api_url):  # --allow-embedded would not help
                hint = 'the key "embedded:" works with an embedded Connect only'
                self._miss("config/instance_key", describe(reference), hint)
            else:
                self._may_be_embedded("config/instance_key", value)
            return None
        if not value.isprintable() or value != value.strip():  # control characters are not printable
            self._misfit(
                "config/instance_key",
                "the key has characters that no HTTP header can carry",
                "check for spaces and line breaks",
            )
        return Secret(value)

    def _password(self) -> tuple[Secret | None, str | None, bool]:
        reference = self.manifest.document["admin"]["password"]
        try:
            value = self.sources.fetch(reference, self.manifest.folder)
        except SourceError as exc:
            self._say("admin/password", exc)
            return None, None, False
        if value is not None:
            if reason := unfit(Secret(value)):
                self._misfit("admin/password", reason, "choose another one")
            return Secret(value), None, False
        if not reference.get("generate"):
            hint = f"{SET_MISSING}, or add generate: true"
            self._miss("admin/password", describe(reference), hint, reference)
            return None, None, False
        path = password_path(self.resolution.work_dir, self.manifest.instance)
        try:
            password, new = read_or_make(path)
        except MissingSetting as exc:
            self._miss("admin/password", exc.message, exc.hint)
            return None, None, False
        return password, str(path), new

    def _value(self, path: str, declared: str | Mapping[str, Any]) -> str | None:
        """A literal, or the value of its reference, or its default."""
        if isinstance(declared, str):
            return declared
        try:
            value = self.sources.fetch(declared, self.manifest.folder)
        except SourceError as exc:
            self._say(path, exc)
            return None
        if value is None and "default" not in declared:
            self._miss(path, describe(declared), SET_MISSING, declared)
        return declared.get("default") if value is None else value

    def _may_be_embedded(self, path: str, value: str) -> bool:
        """Refuse embedded URLs in production: a forgotten variable must never succeed against an emulator."""
        production = self._environment() == "production"
        if not is_embedded(value) or not production or self.resolution.allow_embedded:
            return True
        part, name = path.split("/")
        declared = self.manifest.document[part][name]
        by_default = isinstance(declared, Mapping) and self.sources.fetch(declared, self.manifest.folder) is None
        unset = f"{describe(declared)}, and " if by_default else ""
        self._miss(path, f'{unset}production does not use "embedded:"', f"{SET_MISSING}, or give --allow-embedded")
        return False

    def _say(self, path: str, exc: SourceError) -> None:
        if exc.misplaced:
            self._misfit(path, exc.message, exc.hint)
        else:
            self._miss(path, exc.message, exc.hint)

    def _miss(self, path: str, words: str, hint: str, reference: Mapping[str, Any] | None = None) -> None:
        key = path.replace("/", ".")
        source = (
            next(((kind, str(reference[kind])) for kind in LISTED if kind in reference), None) if reference else None
        )
        place = problem_at(self.manifest, path, f"{key}: {words}", hint)
        self.missing.append(Missing(self.manifest.instance, key, words, hint, source=source, place=place))

    def _misfit(self, path: str, message: str, hint: str) -> None:
        self.problems.append(problem_at(self.manifest, path, message, hint))


def _shared_databases(found: Sequence[_Resolving]) -> Iterator[ManifestProblem]:
    if len(found) == 1:
        return
    owners: dict[Identity, str] = {}
    for one in found:
        url = one.found.database
        identity = database_identity(url.reveal()) if url is not None else None
        if identity is None:
            continue
        if identity in owners:
            message = f"its database is also that of {owners[identity]}"
            yield problem_at(one.manifest, "database/url", message, "give each instance a database of its own")
        owners.setdefault(identity, one.manifest.instance)


def _desired(manifest: Manifest, values: _Values, needs: frozenset[Need]) -> Desired:
    document = manifest.document
    plans = document.get("plans", {})
    target = ConnectTarget(values.api_url, values.instance_key) if values.api_url is not None else None
    return Desired(
        instance=manifest.instance,
        environment=EnvironmentSpec(**document["environment"]),
        database=DatabaseSpec(
            values.database or Secret(""),
            document["database"]["create"],
            schema=document["database"]["schema"],
            provision_url=values.provision,
        ),
        connect=target if "connect" in needs else None,
        managed=_managed(document, values),
        plans_from_connect=plans.get("source") == "connect",
        plans_unmanaged=plans.get("unmanaged", "deactivate"),
        labels=manifest.labels,
        expect=document.get("expect", {}),
        usage_report=document.get("usage", {}).get("report", False),
        ignore=tuple(_ignore(entry) for entry in document["ignore"]),
        suspend=document["suspend"],
        bcrypt_cost=document.get("admin", {}).get("bcrypt_cost", BCRYPT_COST),
        document=document,
        origin=manifest.origin,
        generated=values.generated,
        generated_new=values.generated_new,
        whole=needs >= {"database", "connect", "admin"},
    )


def _managed(document: Mapping[str, Any], values: _Values) -> Mapping[str, Managed]:
    """The resources that the kinds build from the document, with values in place of references."""
    config = {**document["config"], "connect_api_url": values.api_url, "instance_key": values.instance_key}
    # A secret that was not resolved, because this command does not need it, is not managed by it.
    declared = document["config"]["settings"]
    known = {name: values.settings.get(name, value) for name, value in declared.items()}
    config["settings"] = {name: value for name, value in known.items() if reference_of(value) is None}
    resolved = {**document, "config": config, "database": {**document["database"], "url": values.database}}
    if "admin" in document:
        resolved["admin"] = {**document["admin"], "password": values.password}
    found = ((kind.name, kind.from_manifest(resolved)) for kind in KINDS)
    return {name: managed for name, managed in found if managed is not None}


def _ignore(entry: Mapping[str, Any]) -> Ignore:
    until = date.fromisoformat(entry["until"]) if "until" in entry else None
    return Ignore(entry["field"], entry["reason"], until)
