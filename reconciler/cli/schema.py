"""`fivrec schema`: prints the JSON Schemas."""

from __future__ import annotations

import click

from reconciler.model.errors import UsageError


@click.command("schema")
@click.argument("name", default="manifest")
@click.option("--list", "list_names", is_flag=True, help="List the schemas' names.")
def command(name: str, *, list_names: bool) -> None:
    """Print the JSON Schema (2020-12) of NAME: manifest, report, plan, connect-status … (--list).

    Editors complete and check manifests with it: it accepts {{ … }} in place of any scalar.
    manifest-rendered is the schema that fivrec itself applies once templates are rendered.

    Example: fivrec schema manifest > manifest.v1.schema.json
    """
    from reconciler.support.package_files import read_text

    schemas = _schemas()
    if list_names:
        click.echo("\n".join(schemas))
    elif name in schemas:
        click.echo(read_text(schemas[name]), nl=False)
    else:
        raise UsageError(f'there is no schema "{name[:60]}"', hint=f"schemas are {', '.join(schemas)}")


def _schemas() -> dict[str, str]:
    """The names to type, and the files of the schemas."""
    from reconciler.support.package_files import resource_path

    root = resource_path("schemas")
    found = {}
    for path in sorted(root.rglob("*.schema.json")):
        relative = path.relative_to(root)
        name = "-".join((*relative.parts[:-1], relative.name.removesuffix(".schema.json").removesuffix(".v1")))
        found[name] = f"schemas/{relative.as_posix()}"
    found["manifest-rendered"] = found["manifest"]
    found["manifest"] = found.pop("manifest.v1.editor")
    return dict(sorted(found.items()))
