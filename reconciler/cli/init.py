"""`fivrec init`: writes a commented starter manifest."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import click

DEFAULT_FILE = "fivrec.yaml"
FIRST = "client-abc-123"
OWN_VARIABLES = ("DATABASE_URL", "FIV_APP_API_KEY", "FIV_ADMIN_PASSWORD")

STARTER = """\
# A fivrec manifest: the state that one Fi.V App instance is kept in. "fivrec validate" checks it, "fivrec diff" shows
# what would change, "fivrec apply" changes it. Nothing needs to be set for a first try: the database and Fi.V Connect
# are then the embedded ones.
#
# For completion in your editor: fivrec schema > manifest.v1.schema.json, and as this file's first line
#   yaml-language-server: $schema=manifest.v1.schema.json
version: 1

# The instance's id at Fi.V Connect.
instance: INSTANCE

# Labels to choose instances by: fivrec apply --limit region=br-south
labels:
  region: br-south

# Values for {{ … }} below; "-e company=…" on the command line overrides them.
vars:
  company: Nome da Empresa

# The database's URL is a secret, so it comes from a variable, a file or a command:
#   {env: NAME}, {file: path}, {command: [program, argument]} (only programs that --allow-command names)
# "embedded:" is a PostgreSQL that fivrec brings along; production refuses it.
database:
  url: {env: DATABASE_URL, default: "embedded:"}
  create: true

# production or development; here NODE_ENV decides. The default is for trying things out: with a real database, set
# NODE_ENV, or write the environment here.
environment: {env: NODE_ENV, default: development}

# How the instance reaches Fi.V Connect, and rows of its settings table.
config:
  connect_api_url: {env: FIV_APP_API_URL, default: "embedded:"}
  instance_key: {env: FIV_APP_API_KEY, default: "embedded:"}
  check_interval_minutes: 60
  company_name: "{{ company }}"
  # settings: {locale: pt-BR}

# The administrator. A password that no variable gives is generated, and kept in .fivrec/secrets/.
admin:
  name: Administrador
  email: admin@empresa.com
  password: {env: FIV_ADMIN_PASSWORD, generate: true}
  update_password: on_create

# The service queues. Those that are not listed are left alone; the long form changes that:
#   queues: {items: [...], unmanaged: deactivate}
queues:
  - name: Technical Support
    description: Suporte técnico
  - name: Sales
    description: Vendas

# The plans table, as Fi.V Connect has it.
plans:
  source: connect
  unmanaged: deactivate

# What Fi.V Connect should say; a difference is shown as a conflict, never changed.
# expect:
#   status: active
#   billing_status: paid

# Send the usage report at every scheduled check.
usage:
  report: true

# Differences that are accepted for a while.
# ignore:
#   - {field: queue/Sales/description, until: 2026-12-31, reason: renamed during the campaign}

# true: fivrec watches the instance but changes nothing.
suspend: false
"""


@click.command("init", short_help="Write a commented starter manifest.")
@click.argument("file", default=DEFAULT_FILE)
@click.option(
    "--instance",
    metavar="ID",
    help="The instance's id. Default: client-abc-123; beside other manifests from the file's name; with --from-setup "
    "from the database's.",
)
@click.option("--force", is_flag=True, help="Overwrite the file.")
@click.option(
    "--from-setup",
    type=click.File(encoding="utf-8"),
    metavar="SCRIPT",
    help="A file (- is standard input) with the setup-new-instance.js command line that the instance was made by.",
)
def command(file: str, *, instance: str | None, force: bool, from_setup: TextIO | None) -> None:
    """Write a commented starter manifest to FILE (fivrec.yaml; - is standard output).

    Beside other manifests it takes its id from the file's name, and, if one of them takes DATABASE_URL, variables of
    its own for database, key and password.

    With --from-setup, the manifest that a setup-new-instance.js command line stands for; neither the database's URL
    nor the password is written: they come from variables, which are named on stderr.

    Example: fivrec init manifests/client.yaml --instance client-abc-123

    Example: fivrec init manifests/client.yaml --from-setup provision.sh
    """
    from reconciler.cli.options import instance_name
    from reconciler.model.errors import Refused
    from reconciler.support.files import make_parent_folder, replace_text

    if not file:
        raise click.UsageError("an empty path names no file; is a variable not set?")
    instance, text = _build_manifest(file, instance_name(instance), from_setup)
    if file == "-":
        click.echo(text, nl=False)
        return
    try:
        make_parent_folder(file)
        replace_text(file, text, exclusive=not force)
    except FileExistsError as exc:
        raise Refused(f"{file} already exists; nothing was written", hint="give --force to overwrite it") from exc
    click.echo(f"{file} written, for the instance {instance}; next: fivrec validate {file}", err=True)


def _build_manifest(file: str, instance: str | None, from_setup: TextIO | None) -> tuple[str, str]:
    """Returns the instance's id and the manifest's text."""
    others = [] if file == "-" else _read_manifests_beside(Path(file))
    if from_setup is None:
        instance = instance or (others and _named_after(Path(file))) or FIRST
        text = STARTER.replace("INSTANCE", instance, 1)
    else:
        instance, text = _convert(from_setup.read(), instance)
    suffix = _suffix_of_own_variables(instance, others)
    for name in OWN_VARIABLES:
        text = re.sub(rf"\benv: {name}\b", f"env: {name}{suffix}", text)
    if from_setup is not None:
        url, key, password = (f"{name}{suffix}" for name in OWN_VARIABLES)
        click.echo(f"set {url}, FIV_APP_API_URL, {key} and {password} for it", err=True)
    return instance, text


def _suffix_of_own_variables(instance: str, others: list[str]) -> str:
    """What the names of its variables end in: nothing for a folder's first client."""
    same = re.compile(rf"^instance: *[\"']?{re.escape(instance)}(?![\w.-])", re.MULTILINE)
    others = [other for other in others if not same.search(other)]
    if not any(re.search(r"\benv: *[\"']?DATABASE_URL\b", other) for other in others):
        return ""
    suffix = "_" + re.sub(r"\W", "_", instance, flags=re.ASCII).upper()
    names = ", ".join(f"{name}{suffix}" for name in OWN_VARIABLES)
    click.echo(f"another manifest there takes DATABASE_URL, so this one takes {names}", err=True)
    return suffix


def _read_manifests_beside(path: Path) -> list[str]:
    """The other manifests of its folder; what can't be read is no manifest here."""
    found = []
    for other in sorted(path.parent.glob("*.y*ml")):
        if other.name != path.name and other.is_file():
            with suppress(OSError):
                found.append(other.read_text(encoding="utf-8", errors="replace"))
    return found


def _named_after(path: Path) -> str | None:
    from reconciler.cli.options import instance_name
    from reconciler.model.errors import FivrecError

    try:
        return instance_name(path.stem)
    except FivrecError:
        return None


def _convert(script: str, instance: str | None) -> tuple[str, str]:
    from reconciler.manifest.from_setup import instance_of_database, manifest_from, parse_options
    from reconciler.manifest.yaml_writer import as_manifest
    from reconciler.model.errors import UsageError
    from reconciler.model.kinds.base import literal
    from reconciler.support.postgres_url import form_problem, name_in

    try:
        options = parse_options(script)
    except ValueError as exc:
        hint = 'such as: node setup-new-instance.js --database-url="…" --admin-email="…" --company-name="…"'
        raise UsageError(f"--from-setup: {exc}", hint=hint) from None
    url = options["database-url"]
    if instance is None and (reason := form_problem(url)):
        raise UsageError(f"--from-setup: the database URL {reason}", hint="or name the instance by --instance")
    options = {name: value if name == "database-url" else str(literal(value)) for name, value in options.items()}
    instance = instance or instance_of_database(name_in(url))
    return instance, as_manifest(manifest_from(options, instance))
