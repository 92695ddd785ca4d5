"""Rules for every option of every command: no empty value, a variable with its name, its place in --help."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import click

from reconciler.cli.options import GROUPS, OWN


def refuse_empty_values(command: click.Command) -> None:
    """Make all options of the command and its subcommands refuse an empty value, which comes from an unset variable."""
    for each in _with_those_below(command):
        for param in each.params:
            if isinstance(param, click.Option) and not param.is_flag:
                param.type_cast_value = _not_empty(param)  # type: ignore[method-assign, assignment]  # of any type


def read_variables(command: click.Command) -> None:
    """Let all options of the command and its subcommands be set by a variable with the option's own name (`--no-checks`
    too). click only knows the name in the code, and ignores an empty variable that was meant to have a value."""
    for each in _with_those_below(command):
        for param in each.params:
            if isinstance(param, click.Option):
                param.resolve_envvar_value = _with_own_names(param)  # type: ignore[method-assign, assignment]


def find_variable(option: click.Parameter, ctx: click.Context) -> tuple[str, bool]:
    """The variable that sets the option, and whether it means the opposite; if none is set, the one with its name."""
    own = [option.envvar] if isinstance(option.envvar, str) else list(option.envvar or ())
    known = [(name, False) for name in own]
    for words, opposite in (([f"--{option.name}"], False), (option.opts, False), (option.secondary_opts, True)):
        longs = (word[2:] for word in words if word.startswith("--"))
        known += [(f"{ctx.auto_envvar_prefix}_{word}".replace("-", "_").upper(), opposite) for word in longs]
    present = sorted((item for item in known if item[0] in os.environ), key=lambda item: not os.environ[item[0]])
    return present[0] if present else known[len(own)]


def _with_own_names(option: click.Option) -> Callable[[click.Context], str | None]:
    def resolve(ctx: click.Context) -> str | None:
        variable, opposite = find_variable(option, ctx)
        value = os.environ.get(variable)
        if value == "":
            raise click.BadParameter(f"the variable {variable} is empty: unset it, or give it a value", ctx, option)
        if value is None or not opposite:
            return value
        try:
            return "0" if click.BOOL.convert(value, option, ctx) else "1"
        except click.BadParameter as exc:
            words = f"{exc.message.rstrip('.')}; it comes from the variable {variable}"
            raise click.BadParameter(words, ctx, option) from None

    return resolve


def group_shared_options(command: click.Command) -> None:
    """Make --help of the command and its subcommands list its own options first, and shared ones in groups."""
    for each in _with_those_below(command):
        if not isinstance(each, click.Group):
            each.format_options = partial(_write_options, each)  # type: ignore[method-assign]


def _with_those_below(command: click.Command) -> Iterator[click.Command]:
    yield command
    for child in command.commands.values() if isinstance(command, click.Group) else ():
        yield from _with_those_below(child)


def _write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    groups: dict[str, list[tuple[str, str]]] = {title: [] for title in GROUPS}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
        if record is not None:
            groups[getattr(param, "group", OWN)].append(record)
    for title, records in groups.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


def _not_empty(option: click.Option) -> Callable[[click.Context, Any], Any]:
    cast = option.type_cast_value

    def refuse_or_cast(ctx: click.Context, value: Any) -> Any:
        if value == "" or (isinstance(value, (list, tuple)) and "" in value):
            raise click.BadParameter("the value is empty; is a variable not set?", ctx, option)
        return cast(ctx, value)

    return refuse_or_cast
