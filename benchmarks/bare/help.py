"""The limit for `--help` and `--version`: a click program with a group and three commands."""

import click


@click.group()
@click.version_option("0.1.0", prog_name="bare")
def main():
    """Keep Fi.V App instances in the state that a manifest declares."""


@main.command()
@click.argument("path", nargs=-1)
def apply(path):
    """Reconcile."""


@main.command()
@click.argument("path", nargs=-1)
def diff(path):
    """Show what apply would do."""


@main.command()
@click.argument("path", nargs=-1)
def validate(path):
    """Check manifests offline."""


main()
