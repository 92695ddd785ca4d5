"""Options of apply and diff for work by pull request: saved plans, --changed-since, --max-changed, the rollout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import Settings, combine
from reconciler.model.errors import UsageError

if TYPE_CHECKING:
    from reconciler.manifest.loader import Manifest
    from reconciler.model.types import Key
    from reconciler.planning.report import InstanceReport
    from reconciler.planning.rollout import Rollout
    from reconciler.support.log import EventLog


class Amount(click.ParamType[str]):
    """A number of instances, or a share of them: 5 or 10%."""

    name = "amount"

    def __init__(self, *, positive: bool = False) -> None:
        self.positive = positive

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from reconciler.planning.rollout import is_amount

        text = str(value).strip()
        if not is_amount(text):
            raise click.BadParameter(f'"{value}" is neither a number nor a percentage: write 5 or 10%', ctx, param)
        if self.positive and not float(text.removesuffix("%")):
            words = f'"{value}" is too small: write 1 or more, or leave it out for all at once'
            raise click.BadParameter(words, ctx, param)
        return text


AMOUNT, POSITIVE = Amount(), Amount(positive=True)

changed_since_option = click.option(
    "--changed-since",
    metavar="REV",
    help="Only instances whose rendered manifest differs from the one of this git commit.",
)


max_changed_option = click.option(
    "--max-changed",
    type=AMOUNT,
    metavar="N|N%",
    help="Refuse, before anything is written, if more instances than this would change.",
)


rollout_options = combine(
    click.option(
        "--canary",
        type=click.IntRange(min=1),
        metavar="N",
        help="Begin with N instances that have changes; any failure stops.",
    ),
    click.option("--serial", type=POSITIVE, metavar="N|N%", help="This many instances at a time, after the canary."),
    click.option(
        "--max-fail",
        type=AMOUNT,
        metavar="N|N%",
        help="Start no more instances once more than this many failed. Default with --canary or --serial: 0.",
    ),
)


def build_rollout(options: dict[str, Any]) -> Rollout:
    from reconciler.planning.rollout import Rollout

    return Rollout(options["canary"] or 0, options["serial"], options["max_fail"])


NO_LONGER_MANAGED = "no longer managed"


def only_changed(
    manifests: tuple[Manifest, ...], settings: Settings, log: EventLog, command: str
) -> tuple[tuple[Manifest, ...], tuple[InstanceReport, ...]]:
    """--changed-since: the manifests that differ, and a report of each instance that is no longer managed."""
    import os

    from reconciler.manifest.changed_since import Inputs, changed_since

    assert settings.changed_since is not None  # noqa: S101  (the caller's condition, for the type checker)
    inputs = Inputs(settings.paths, settings.extra_vars, os.environ, settings.limit)
    changed = changed_since(settings.changed_since, manifests, inputs)
    since = changed.commit[:12]
    if changed.unreadable is not None:
        log.warning(
            command, f"⚠️ the manifests of {since} could not be loaded, so all count as changed: {changed.unreadable}"
        )
    counted = f"{len(changed.manifests)} of {len(manifests)} instances changed since {since}"
    gone = f"; {len(changed.gone)} no longer managed" if changed.gone else ""
    log.info(command, f"🔎 {counted}{gone}")
    return changed.manifests, tuple(_no_longer_managed(manifest, since) for manifest in changed.gone)


def _no_longer_managed(manifest: Manifest, since: str) -> InstanceReport:
    from reconciler.planning.report import InstanceReport

    note = f"{NO_LONGER_MANAGED}: a manifest of {since} declared it, none does now; nothing in it was touched"
    environment = manifest.document["environment"]["name"]
    return InstanceReport(manifest.instance, environment, "skipped", 0, notes=(note,), attempted=False)


show_fields_option = click.option("--diff", "-D", "show_fields", is_flag=True, help="Show each field before and after.")
adopt_option = click.option("--adopt", is_flag=True, help="Take over a database that belongs to another instance.")
deep_option = click.option("--deep", is_flag=True, help="Read the whole catalogue, not just the migrations table.")
strict_option = click.option(
    "--strict",
    is_flag=True,
    help="End with 1 if Connect says something other than what is expected, or if something is former.",
)
keep_going_option = click.option(
    "--keep-going",
    is_flag=True,
    help="Let instances that lack a secret or setting fail alone (78 in their report); the others go on.",
)


def explained_key(text: str | None, output: str, option: str = "--explain") -> Key | None:
    """KIND/NAME, the value of --explain or another option, as a key."""
    if text is None:
        return None
    from reconciler.model.kinds import BY_NAME
    from reconciler.model.types import Key

    if output not in ("text", "json"):
        raise UsageError(f"{option} goes with -o text or -o json", hint="leave -o out")
    kind, slash, name = text.partition("/")
    if kind not in BY_NAME or not slash or not name:
        raise UsageError(f'"{text[:60]}" is not KIND/NAME', hint=f"such as queue/Sales; kinds are {', '.join(BY_NAME)}")
    return Key(kind, name)
