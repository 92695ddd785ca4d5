"""`fivrec completion`: the script that makes a shell complete fivrec's commands and options, and the completion of
values: names and labels of instances, resources of manifests. Offline and silent."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.manifest.loader import Manifest

PROGRAM = "fivrec"
VARIABLE = "_FIVREC_COMPLETE"
DECLARED = {"queue": "queues", "plan": "plans"}

_AFTER_GIVEN = "string replace -r -- '^' \"$given\";"
AFTER_EQUALS = {
    # readline ends words at "=", ":" and "@": click gets the whole line, and readline what follows the last of them.
    "bash": {
        '    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD ': """\
    local line="${COMP_LINE:0:COMP_POINT}" last="${COMP_WORDS[COMP_CWORD]}" cut
    line="$1${line#*"$1"}"
    cut="${line##*[[:space:]]}"
    [[ $cut == -*=* ]] && cut="${cut#*=}"
    [[ $last == *[!=:@]* ]] && cut="${cut%"$last"}"
    [[ $line == *[[:space:]] ]] && line+="''"

    response=$(env COMP_WORDS="$line" COMP_CWORD=-1 """,
        "COMPREPLY+=($value)": 'COMPREPLY+=("${value#"$cut"}")',
    },
    "zsh": {
        "    for type key descr": """\
    local given="${(M)words[CURRENT]#-*=}"
    [[ -n $given ]] && compset -P 1 '*='
    for type key descr""",
        'completions+=("$key")': 'completions+=("$given$key")',
    },
    "fish": {
        "    for completion in": """\
    set -l given (string match -r -- '^-[^=]*=' (commandline -t));
    for completion in""",
        "__fish_complete_directories $metadata[2];": "__fish_complete_directories $metadata[2] | " + _AFTER_GIVEN,
        "__fish_complete_path $metadata[2];": "__fish_complete_path $metadata[2] | " + _AFTER_GIVEN,
        "echo $metadata[2];": 'echo "$given$metadata[2]";',
    },
}
"""What is changed in click's scripts, so that values are completed after `--option=` and `key=` too."""


@click.command("completion")
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

    chosen = get_completion_class(shell)
    assert chosen is not None  # noqa: S101  click brings all three
    script = chosen(click.get_current_context().find_root().command, {}, PROGRAM, VARIABLE).source()
    for found, ours in AFTER_EQUALS[shell].items():
        script = script.replace(found, ours)
    click.echo(script)


def complete_limit(ctx: click.Context, incomplete: str) -> list[str]:
    """-l: the part of `a,b` and `!a` that is already typed stays before the names."""
    before, comma, last = incomplete.rpartition(",")
    sign = "!" if last.startswith("!") else ""
    manifests = _load(ctx)
    labels = {f"{key}={value}" for manifest in manifests for key, value in manifest.labels.items()}
    words = sorted({manifest.instance for manifest in manifests}) + sorted(labels)
    return [f"{before}{comma}{sign}{word}" for word in words if word.startswith(last[len(sign) :])]


def complete_resource(ctx: click.Context, incomplete: str) -> list[str]:
    """--explain: KIND/ until there is a kind, then the names that the manifests declare."""
    from reconciler.model.kinds import KINDS

    kind, slash, _ = incomplete.partition("/")
    if not slash:
        return [f"{one.name}/" for one in KINDS if one.name.startswith(kind)]
    names = sorted({name for manifest in _load(ctx) for name in _names(manifest, kind)})
    return [word for name in names if (word := f"{kind}/{name}").startswith(incomplete)]


def _names(manifest: Manifest, kind: str) -> Sequence[str]:
    document = manifest.document
    match kind:
        case "config" | "environment" | "status":
            return (manifest.instance,)
        case "admin":
            return (document["admin"]["email"],) if "admin" in document else ()
        case "setting":
            return ("company_name", *document["config"]["settings"])
        case "queue" | "plan":
            items = document.get(DECLARED[kind], {}).get("items", ())
            return tuple(item.get("name") or item.get("id") for item in items)
        case _:
            return ()


def _load(ctx: click.Context) -> tuple[Manifest, ...]:
    """The manifests of the paths typed so far. Nothing if they can't be read: a shell has no place for errors."""
    from reconciler.manifest.loader import load_sound

    # An option that lacks its value ends click's parsing: the paths are then among the remaining arguments.
    given = ctx.params.get("paths") or ctx.args
    paths = tuple(path for path in given if not path.startswith("-"))
    try:
        variables = ctx.params.get("extra_vars") or ()
        return load_sound(paths, variables=variables, environ=os.environ)[0] if paths else ()
    except Exception:  # noqa: BLE001 (whatever it is: the command itself will say it)
        return ()
