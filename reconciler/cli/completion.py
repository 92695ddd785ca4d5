"""`fivrec completion`: the script that makes a shell complete fivrec's commands and options."""

from __future__ import annotations

import click

PROGRAM = "fivrec"
VARIABLE = "_FIVREC_COMPLETE"


@click.command("completion", short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell, to be evaluated in its start-up file.

    \b
    Example:
      eval "$(fivrec completion bash)"                                  # in ~/.bashrc
      eval "$(fivrec completion zsh)"                                   # in ~/.zshrc
      fivrec completion fish > ~/.config/fish/completions/fivrec.fish
    """
    from click.shell_completion import get_completion_class

    from reconciler.cli.main import cli

    chosen = get_completion_class(shell)
    assert chosen is not None  # noqa: S101  click brings all three
    click.echo(chosen(cli, {}, PROGRAM, VARIABLE).source())
