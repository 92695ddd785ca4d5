"""`fivrec plans`: Connect's plans."""

from __future__ import annotations

from typing import Any

import click

from reconciler.cli.options import OF_APPLY, manifest_options, settings_from
from reconciler.cli.reading_commands import cell_text, show_connects
from reconciler.model.types import ConnectPlan

HEADINGS = ("instance", "id", "name", "price", "interval", "users", "conversations", "storage MB", "active", "features")


@click.command("plans")
@manifest_options("text", "json", "markdown", unused=OF_APPLY)
def command(**options: Any) -> None:
    """Show the plans that Connect offers each instance; nothing is changed.

    Example: fivrec plans manifests/client.yaml
    """
    from reconciler.engine.status_and_logs import fetch_plans

    settings = settings_from(options)
    click.get_current_context().exit(show_connects(settings, "plans", fetch_plans, HEADINGS, _row))


def _row(instance: str, plan: ConnectPlan) -> tuple[str, ...]:
    return (
        instance,
        plan.id,
        plan.name,
        price(plan.price, plan.currency),
        plan.billing_interval,
        *map(cell_text, (plan.max_users, plan.max_conversations, plan.storage_limit, plan.is_active)),
        ", ".join(str(feature) for feature in plan.features),
    )


def price(cents: int, currency: str) -> str:
    """R$ 29,00 as the seed writes it; other currencies by their code."""
    units, rest = divmod(abs(cents), 100)
    sign = "-" if cents < 0 else ""
    name = "R$" if currency == "BRL" else currency
    return f"{name} {sign}{units:,}".replace(",", ".") + f",{rest:02d}"
