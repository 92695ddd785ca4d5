"""`fivrec init`: writes a commented starter manifest."""

from __future__ import annotations

import glob
import re
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import click

from reconciler.cli.options import instance_name
from reconciler.model.errors import Refused, UsageError

DEFAULT_FILE = "fivrec.yaml"
FIRST = "client-abc-123"
OWN_VARIABLES = ("DATABASE_URL", "FIV_APP_API_KEY", "FIV_ADMIN_PASSWORD")

LOST = (
    "what its database has and the command line has not, such as queues' descriptions and the administrator's name, "
    "would be cleared or replaced: look at fivrec diff, or take fivrec export, which keeps it"
)


@click.command("init")
@click.argument("file", default=DEFAULT_FILE)
@click.option(
    "--instance",
    metavar="ID",
    help="The instance's id. Default: client-abc-123; beside other manifests from the file's name or its folder's; "
    "with --from-setup from the database's.",
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

    If there are other manifests (in its folder, or files of its name in folders next to that), the instance's id comes
    from the name of the file or folder. If one of them uses DATABASE_URL, this one gets variables of its own for the
    database, key and password.

    With --from-setup, the manifest is made from a setup-new-instance.js command line. Neither the database's URL nor
    the password is written: they come from variables, which are named on stderr.

    Example: fivrec init manifests/client.yaml --instance client-abc-123

    Example: fivrec init manifests/client.yaml --from-setup provision.sh
    """
    from reconciler.support.files import is_folder, make_parent_folder, replace_text

    if not file:
        raise click.UsageError("an empty path names no file; is a variable not set?")
    if file.lower().endswith(".json"):
        raise UsageError(f"init writes YAML with comments, and {file} would be no JSON", hint="name a .yaml file")
    if file.endswith("/") or is_folder(file):
        raise UsageError(f"{file} is a folder", hint=f"name a file in it, such as {Path(file) / 'fivrec.yaml'}")
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
        instance = instance or _free_name(Path(file), others)
        text = Path(__file__).with_name("starter.yaml").read_text(encoding="utf-8").replace("INSTANCE", instance, 1)
    else:
        instance, text = _convert(from_setup.read(), instance)
    if _declared(instance, others):
        click.echo(f"⚠️ another manifest there declares {instance} too: keep one of the two", err=True)
    suffix = _suffix_of_own_variables(instance, others)
    for name in OWN_VARIABLES:
        text = re.sub(rf"\benv: {name}\b", f"env: {name}{suffix}", text)
    if from_setup is not None:
        url, key, password = (f"{name}{suffix}" for name in OWN_VARIABLES)
        click.echo(f"set {url}, FIV_APP_API_URL, {key} and {password} for it", err=True)
        click.echo(LOST, err=True)
    return instance, text


def _suffix_of_own_variables(instance: str, others: list[str]) -> str:
    """The suffix of its variables' names: empty for a folder's first client."""
    from reconciler.model.kinds.base import variable_suffix

    declaring = _declared(instance, others)
    others = [other for other in others if other not in declaring]
    if not any(re.search(r"\benv: *[\"']?DATABASE_URL\b", other) for other in others):
        return ""
    suffix = variable_suffix(instance)
    names = ", ".join(f"{name}{suffix}" for name in OWN_VARIABLES)
    click.echo(f"another manifest there takes DATABASE_URL, so this one takes {names}", err=True)
    return suffix


def _declared(instance: str, manifests: list[str]) -> list[str]:
    """Manifests that declare the instance."""
    line = re.compile(rf"^instance: *[\"']?{re.escape(instance)}(?![\w.-])", re.MULTILINE)
    return [text for text in manifests if line.search(text)]


def _read_manifests_beside(path: Path) -> list[str]:
    """The other manifests of its folder, and those with its name in the folders next to it, if every client has a
    folder.

    Unreadable files don't count as manifests here.
    """
    alone = path.is_absolute() or path.parent == Path()  # the folders next to an absolute one may contain anything
    folders = () if alone else path.parent.parent.glob(f"*/{glob.escape(path.name)}")
    found = []
    try:
        others = sorted({*path.parent.glob("*.y*ml"), *folders})
    except OSError:  # a folder that may not be entered
        others = []
    for other in others:
        with suppress(OSError):
            if other != path and other.is_file():
                found.append(other.read_text(encoding="utf-8", errors="replace"))
    return [text for text in found if re.search(r"^instances?:", text, re.MULTILINE)]


def _free_name(path: Path, others: list[str]) -> str:
    """An instance's id that no other manifest declares: the first client's, otherwise from the file's or its folder's
    name."""
    if not others:
        return FIRST
    folder = path.parent.name
    alone = all(other == path for other in path.parent.glob("*.y*ml"))  # a folder per client: its name says more
    names = [folder, path.stem] if alone else [path.stem, folder]
    for name in (*names, f"{folder}-{path.stem}"):
        with suppress(UsageError):
            if instance_name(name) and not _declared(name, others):
                return name
    raise UsageError(f"the other manifests there leave no instance's name for {path}", hint="name it by --instance ID")


def _convert(script: str, instance: str | None) -> tuple[str, str]:
    from reconciler.manifest.from_setup import instance_of_database, manifest_from, parse_options
    from reconciler.manifest.yaml_writer import as_manifest
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
