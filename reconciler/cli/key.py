"""`fivrec key generate`: make encryption keys."""

from __future__ import annotations

import click


@click.group("key", short_help="Make and rotate encryption keys.")
def command() -> None:
    """Make the keys that encrypt instance keys at rest.

    Example: export FIVREC_ENCRYPTION_KEY="$(fivrec key generate)"
    """


@command.command("generate", short_help="Print a new key.")
def generate() -> None:
    """Print one new key, ready for FIVREC_ENCRYPTION_KEY, and nothing else.

    Example: fivrec key generate > fivrec.key
    """
    from reconciler.adapters.key_source import generate_key

    click.echo(generate_key())
