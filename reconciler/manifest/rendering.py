"""Render one instance's raw document: variables first, then the environment's name, then everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from typing import Any, Final, get_args

from reconciler.manifest.fleet_document import ENVIRONMENT_KEYS, Entry, long_environment
from reconciler.manifest.positions import Finding, show_value
from reconciler.manifest.secrets.plugins import normalise_plugin
from reconciler.manifest.template_budget import TemplateError
from reconciler.manifest.templates import Renderer, has_template
from reconciler.model.json_pointer import escape
from reconciler.model.records import dataclass
from reconciler.model.types import EnvironmentName

MAX_FINDINGS: Final = 1_000
READS_IT: Final = "its own template reads this one, so neither can come first"
_NOT_YET: Final = dict.fromkeys(
    ("labels", "environment"), "vars, labels and environment come before it: put the value into vars, and use that"
)
ENVIRONMENTS: Final[tuple[str, ...]] = get_args(EnvironmentName)


@dataclass(slots=True)
class Rendering:
    """What became of one entry. `variable` is the one that the environment comes from, `missing` the same if it is
    not set, `unsaid` if its default stands for it. `reference` is what else it comes from: a resolution asks that."""

    entry: Entry
    raw: dict[str, Any]
    environment: str = "production"
    variable: str | None = None
    missing: str | None = None
    unsaid: str | None = None
    reference: Mapping[str, Any] | None = None
    findings: list[Finding] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    """Names that templates read, whether or not they are variables."""

    def say(self, path: str, message: str, hint: str = "", value: Any = None) -> None:
        shown = "" if value is None else show_value(path, value)
        self.findings.append(Finding(self.entry.source, path, message, hint, value=shown))


def render_entry(entry: Entry, extra: Mapping[str, Any], environ: Mapping[str, str], renderer: Renderer) -> Rendering:
    rendering = Rendering(entry, dict(entry.raw))
    renderer.start_document()
    walk = _Walk(rendering, renderer)
    names: dict[str, Any] = {"instance": entry.raw.get("instance", "")}
    variables = _render_variables(rendering, walk, names, extra)
    names |= {**variables, "vars": variables}
    for key in ("labels", "environment"):
        if key in rendering.raw:
            rendering.raw[key] = walk.render(rendering.raw[key], names, key)
        if key == "labels":
            names["labels"] = rendering.raw.get("labels", {})
    walk.hints = {}
    _resolve_environment(rendering, environ)
    names["environment"] = rendering.environment
    for key, value in rendering.raw.items():
        # A value without templates stays one object, shared by all instances of a fleet.
        if key not in ("version", "instance", "labels", "environment", "vars") and holds_template(value):
            rendering.raw[key] = walk.render(value, names, key)
    return rendering


def _render_variables(
    rendering: Rendering, walk: _Walk, names: Mapping[str, Any], extra: Mapping[str, Any]
) -> dict[str, Any]:
    """Render the variables. Each template sees all others, including those below it, except those that depend on it."""
    declared = rendering.raw.pop("vars", {})
    if not isinstance(declared, dict):
        rendering.raw["vars"] = declared  # the schema refuses it
        declared = {}
    declared = {**declared, **rendering.entry.literals, **extra}
    literal = rendering.entry.literals.keys() | extra.keys()
    variables = {key: value for key, value in declared.items() if key in literal or not holds_template(value)}
    templates = {key: value for key, value in declared.items() if key not in variables}
    walk.hints = {**dict.fromkeys(templates, READS_IT), **_NOT_YET}
    seen = {**names, **variables, "vars": variables}
    for key in _in_order({key: walk.names_in(value) for key, value in templates.items()}):
        seen[key] = variables[key] = walk.render(templates[key], seen, f"vars/{escape(key)}")
    walk.hints = _NOT_YET
    variables |= {key: variables.pop(key) for key in templates}
    row = rendering.entry.source.row
    walk.sources = dict.fromkeys(rendering.entry.literals, f"({row})") | dict.fromkeys(extra, "(-e)")
    if declared:
        rendering.raw["vars"] = variables
    return variables


def _in_order(needs: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """Each name after those that it needs, otherwise in order; in a cycle, one of them comes first."""
    begun: set[str] = set()
    done: set[str] = set()
    for first in needs:
        stack = [first]
        while stack:
            name = stack[-1]
            if name not in begun:
                begun.add(name)
                stack += sorted((needs[name] & needs.keys()) - begun, reverse=True)
            else:
                stack.pop()
                if name not in done:
                    done.add(name)
                    yield name


def holds_template(value: Any) -> bool:
    match value:
        case str():
            return has_template(value)
        case dict():
            return any(map(holds_template, value.values()))
        case list():
            return any(map(holds_template, value))
        case _:
            return False


class _Walk:
    """Render one document's values; a template that fails is a finding, and its text stays."""

    def __init__(self, rendering: Rendering, renderer: Renderer) -> None:
        self._rendering = rendering
        self._renderer = renderer
        self.sources: Mapping[str, str] = {}
        self.hints: Mapping[str, str] = {}
        """A hint for a name that exists elsewhere."""

    def render(self, value: Any, names: Mapping[str, Any], path: str) -> Any:
        match value:
            case str():
                return self._text(value, names, path) if has_template(value) else value
            case dict():
                return {key: self.render(item, names, f"{path}/{escape(key)}") for key, item in value.items()}
            case list():
                return [self.render(item, names, f"{path}/{index}") for index, item in enumerate(value)]
            case _:
                return value

    def names_in(self, value: Any) -> frozenset[str]:
        match value:
            case str():
                with suppress(TemplateError):  # reported when it is rendered
                    return self._renderer.names_in(value) if has_template(value) else frozenset()
            case dict():
                return frozenset().union(*map(self.names_in, value.values()))
            case list():
                return frozenset().union(*map(self.names_in, value))
        return frozenset()

    def _text(self, text: str, names: Mapping[str, Any], path: str) -> Any:
        if len(self._rendering.findings) >= MAX_FINDINGS:
            return text
        try:
            value = self._renderer.render(text, names)
            named = self._renderer.names_in(text)
        except TemplateError as exc:
            hint = self.hints.get(exc.undefined, exc.hint)
            self._rendering.say(path, exc.message, hint, text if exc.found is None else exc.found)
            return text
        self._rendering.used |= named
        used = sorted(named - {"vars"})
        if used and not path.startswith("vars/"):
            words = [" ".join(filter(None, ("variable", name, self.sources.get(name)))) for name in used]
            self._rendering.origins[path] = ", ".join(words)
        return value


def _resolve_environment(rendering: Rendering, environ: Mapping[str, str]) -> None:
    """The name decides which rows are managed, so a bad value never silently falls back to another."""
    declared = normalise_plugin(rendering.raw.get("environment"), ENVIRONMENT_KEYS)
    form = long_environment(declared)
    name = form.get("name", "production") if isinstance(form, dict) else None
    if isinstance(name, dict):
        name = normalise_plugin(name)
        if "env" in name or name.keys() <= {"default"}:
            name = _read_name(rendering, name, environ)
        else:
            rendering.raw["environment"] = {**form, "name": name}
            rendering.reference, name = name, name.get("default")
    if isinstance(name, str) and name in ENVIRONMENTS:
        rendering.environment = name


def _read_name(rendering: Rendering, reference: Mapping[str, Any], environ: Mapping[str, str]) -> str | None:
    variable = reference.get("env")
    rendering.variable = variable if isinstance(variable, str) else None
    value = environ.get(variable, "") if isinstance(variable, str) else ""
    if value in ENVIRONMENTS:
        rendering.origins["environment/name"] = f"variable {variable}"
        return value
    if value:
        rendering.say("environment", f"the variable {variable} names no environment", "set production or development")
    elif "default" in reference:
        rendering.origins["environment/name"] = "default"
        rendering.unsaid = rendering.variable
        return str(reference["default"])
    elif isinstance(variable, str):
        rendering.missing = variable
    return None
