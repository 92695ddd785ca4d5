"""Turn the seed's provisioning command line into a manifest: what was run once becomes declared. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from reconciler.model.types import Value

KNOWN = frozenset({"database-url", "admin-email", "admin-password", "company-name"})
DEFAULT_QUEUES = ("Technical Support", "Sales")
"""The queues that the script creates (seed: Script de Configuração Automática)."""


def parse_options(text: str) -> dict[str, str]:
    """Returns the options of one `node setup-new-instance.js …` command line; continued lines count as one.

    Raises ValueError, with a message that repeats no value, if the text is not such a command line.
    """
    try:
        words = shlex.split(text.replace("\\\r\n", " ").replace("\\\n", " "), comments=True)
    except ValueError as exc:
        raise ValueError("a quote is not closed") from exc
    found: dict[str, str] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name not in KNOWN:
                raise ValueError(f"--{name} is not an option of setup-new-instance.js")
            if equals:
                found[name], name = value, ""
        elif name:
            found[name], name = word, ""
    if name:
        raise ValueError(f"--{name} has no value")
    missing = sorted(KNOWN - {"admin-password"} - found.keys())
    if missing:
        raise ValueError("these options are missing: " + ", ".join(f"--{one}" for one in missing))
    return found


def instance_of_database(name: str) -> str:
    """The instance's id, from the seed's name for databases: fivapp_<instance>."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name.removeprefix("fivapp_")).lstrip("._-")[:63] or "instance"


def manifest_from(options: Mapping[str, str], instance: str) -> dict[str, Value]:
    """The manifest's document. Contains neither the URL nor the password: they come from variables."""
    return {
        "version": 1,
        "instance": instance,
        "database": {"url": {"env": "DATABASE_URL"}, "create": True},
        "environment": "production",
        "config": {
            "connect_api_url": {"env": "FIV_APP_API_URL"},
            "instance_key": {"env": "FIV_APP_API_KEY"},
            "check_interval_minutes": 60,
            "company_name": options["company-name"],
        },
        "admin": {
            "email": options["admin-email"],
            "password": {"env": "FIV_ADMIN_PASSWORD"},
            "update_password": "on_create",
        },
        "queues": [{"name": name} for name in DEFAULT_QUEUES],
        "plans": {"source": "connect"},
        "usage": {"report": True},
    }
