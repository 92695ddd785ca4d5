"""Apply `connect set`: parsed from the command line, applied to the emulator's state."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reconciler.connect.emulator.state import FAULTS, EmulatorState, Fault, Instance
from reconciler.connect.emulator.state_file import StateFile, issue_key
from reconciler.model.errors import MissingSetting, UsageError
from reconciler.model.patterns import late
from reconciler.model.records import dataclass
from reconciler.model.secret import Secret

_LONGEST_DELAY_S = 3600
_NAME = late(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Drill:
    """None leaves a value as it is. `plans` are those of all instances; () answers with an empty list."""

    key: Secret | None = None
    status: str | None = None
    billing: str | None = None
    features: tuple[tuple[str, bool], ...] = ()
    fail: str | None = None
    delay_s: float | None = None
    plans: tuple[dict[str, Any], ...] | None = None
    reset: bool = False


def set_drill(file: StateFile, name: str, drill: Drill) -> Instance:
    """An unknown instance is created, as for `embedded:`; a key that another instance has is refused."""
    if not _NAME.fullmatch(name):
        hint = "letters, digits, dot, underscore and dash; 63 at most"
        raise UsageError(f'"{name}" is not an instance id', hint=hint)
    for other, known in file.read().instances.items():
        if other != name and known.key == drill.key:
            raise MissingSetting(
                f"the key is that of instance {other} already", hint="give each instance a key of its own"
            )
    issue_key(file, name, drill.key)
    return file.update(lambda state: _applied(state, name, drill)).instances[name]


def _applied(state: EmulatorState, name: str, drill: Drill) -> EmulatorState:
    plans, before = state.plans, state.instances[name]
    if drill.reset:
        plans = None
        before = Instance(
            before.key,
            created_at=before.created_at,
            reports=before.reports,
            reports_counted=before.reports_counted,
        )
    after = replace(
        before,
        key=drill.key or before.key,
        status=drill.status or before.status,
        billing_status=drill.billing or before.billing_status,
        enabled_features={**before.enabled_features, **dict(drill.features)},
        fault=Fault(
            before.fault.fail if drill.fail is None else drill.fail,
            before.fault.delay_s if drill.delay_s is None else drill.delay_s,
        ),
    )
    return replace(state, plans=plans if drill.plans is None else drill.plans).with_instance(name, after)


def format_line(name: str, instance: Instance) -> str:
    """One line about an instance, for people; without its key."""
    features = " ".join(f"{word}={'on' if on else 'off'}" for word, on in sorted(instance.enabled_features.items()))
    fault = f"  fail={instance.fault.fail}" if instance.fault.fail else ""
    delay = f"  delay={instance.fault.delay_s:g}s" if instance.fault.delay_s else ""
    return (
        f"{name} : status={instance.status} billing={instance.billing_status} {features}"
        f" usage_reports={instance.reports_counted}{fault}{delay}"
    )


def key_from(environ: Mapping[str, str], variable: str | None) -> Secret | None:
    if variable is None:
        return None
    value = environ.get(variable, "")
    if not value or value != value.strip() or not value.isprintable():
        raise MissingSetting(
            f"the variable {variable} holds no key that a header can carry",
            hint=f"export {variable} with the instance's key",
        )
    return Secret(value)


def feature_from_text(text: str) -> tuple[str, bool]:
    name, _, word = text.partition("=")
    if not name or word not in ("true", "false"):
        raise UsageError(f'--feature "{text}" is not NAME=true or NAME=false')
    return name, word == "true"


def fail_from_text(text: str) -> str:
    if text == "none":
        return ""
    if text in FAULTS or re.fullmatch(r"[45][0-9][0-9]", text):
        return text
    raise UsageError(f'--fail "{text}" is not known', hint=f"an HTTP status of 400-599, {', '.join(FAULTS)}, none")


def delay_from_text(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|)", text, re.ASCII)
    seconds = float(found[1]) * (0.001 if found[2] == "ms" else 1.0) if found else -1.0
    if not 0 <= seconds <= _LONGEST_DELAY_S:
        raise UsageError(f'--delay "{text}" is not a time like 2s or 500ms, an hour at most')
    return seconds


def plans_from_file(path: Path) -> tuple[dict[str, Any], ...]:
    """Whatever the plans are: an invalid answer is a drill, too."""
    try:
        plans = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a file of JSON") from error
    if not isinstance(plans, list) or not all(isinstance(plan, dict) for plan in plans):
        raise UsageError(f"{path} is not a list of plans", hint="a JSON list, as GET /api/v1/plans answers it")
    return tuple(plans)
