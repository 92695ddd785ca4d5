"""`fivrec plans`: Connect's plans."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import manifest_options, settings_from
from reconciler.cli.reading import CONNECT, ask_all, exit_code, opened, write_errors, write_json, write_table

if TYPE_CHECKING:
    from reconciler.core.model import ConnectPlan

HEADINGS = ("instance", "id", "name", "price", "interval", "users", "conversations", "storage MB", "active", "features")


@click.command("plans", short_help="Show Connect's plans.")
@manifest_options("text", "json", "markdown")
def command(**options: Any) -> None:
    """Show the plans that Connect offers each instance; nothing is changed.

    Example: fivrec plans manifests/client.yaml
    """
    from reconciler.flow.inspect import plans_of

    settings = settings_from(options)
    with opened(settings, "plans", CONNECT) as ready:
        readings = ask_all(ready, settings, plans_of)
    if settings.output == "json":
        write_json("plans", readings, lambda plans: {"plans": [asdict(plan) for plan in plans or ()]})
    else:
        rows = [_row(item.instance, plan) for item in readings for plan in item.value or ()]
        write_table(HEADINGS, rows, markdown=settings.output == "markdown")
        write_errors(readings)
    click.get_current_context().exit(exit_code(readings))


def _row(instance: str, plan: ConnectPlan) -> tuple[str, ...]:
    return (
        instance,
        plan.id,
        plan.name,
        price(plan.price, plan.currency),
        plan.billing_interval,
        _limit(plan.max_users),
        _limit(plan.max_conversations),
        _limit(plan.storage_limit),
        "yes" if plan.is_active else "no",
        ", ".join(str(feature) for feature in plan.features),
    )


def price(cents: int, currency: str) -> str:
    """R$ 29,00 as the seed writes it; other currencies by their code."""
    units, rest = divmod(abs(cents), 100)
    sign = "-" if cents < 0 else ""
    name = "R$" if currency == "BRL" else currency
    return f"{name} {sign}{units:,}".replace(",", ".") + f",{rest:02d}"


def _limit(value: int | None) -> str:
    return "-" if value is None else str(value)
