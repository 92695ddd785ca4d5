"""Reports as a comment on a pull request, in the markdown of GitHub and GitLab, short enough for both.

Every name, value and message is foreign text: outside of fences it is in <code> with all punctuation as entities, so
that it can neither be structure nor notify anyone; inside, no line begins with it.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import field, replace

from reconciler.cli.render.values import accepted_line, change_line, conflict_line, former_line, show_both, since_words
from reconciler.model.changes import Change, FieldChange
from reconciler.model.errors import group_problems, merge_problems
from reconciler.model.names import cut, one_line, printable
from reconciler.model.patterns import late
from reconciler.model.records import dataclass
from reconciler.model.secret import MASK
from reconciler.model.types import ErrorInfo, Key
from reconciler.planning.report import InstanceReport, Report
from reconciler.planning.status_check import KnownStatus, needs_attention

LIMIT = 60_000
"""Characters of the whole; a comment on GitHub may have 65,536."""
TABLE, ATTENTION = 0.25, 0.6
"""The largest share of it for the table, and for what needs attention; blocks of instances take the rest."""
CLOSING = 600
"""Kept free for the line that says what was left out."""
NAMED_AFTER_INSTANCE = frozenset({"config", "environment", "status"})
LONGEST, LONGEST_MESSAGE, LONGEST_NAMES = 300, 1_000, 3_000
PUNCTUATION = late(r"[!-,./:-@\[-`{-~]")
SPECIAL = late(r"[!#$%&*./<>@\[-`{-~]")
"""What Markdown, HTML, or a host's links and mentions are made of."""

COLUMNS = ("instance", "environment", "outcome", "changes", "conflicts", "Connect")
ICONS = {
    "in_sync": "✅",
    "changed": "📝",
    "degraded": "⚠️",
    "failed": "❌",
    "refused": "⛔",
    "busy": "⏳",
    "skipped": "💤",
}


@dataclass(slots=True)
class _Page:
    """The text so far, and how much had no room."""

    limit: int
    size: int = 0
    parts: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    def room(self, share: float) -> int:
        return int((self.limit - CLOSING) * share) - self.size

    def write(self, text: str) -> None:
        self.parts.append(text)
        self.size += len(text) + 1

    def leave_out(self, what: str, count: int) -> None:
        if count:
            self.left_out[what] = self.left_out.get(what, 0) + count


def render(report: Report, limit: int = LIMIT) -> str:
    """The comment, of at most `limit` characters. Equal reports give equal text except for durations."""
    page = _Page(limit)
    page.write(f"<!-- fivrec {_entities(printable(report.command))} -->\n### {_heading(report)}\n")
    _write_table(page, report)
    _write_attention(page, report)
    equal = _find_equal(report)
    for group in _group_equal(equal):
        _write_group(page, group)
    for item in report.instances:
        _write_block(page, item, equal)
    if page.left_out:
        page.write(_closing(page))
    return "\n".join(page.parts).rstrip("\n")


def code(text: str, longest: int = LONGEST) -> str:
    """Foreign text for a line of markdown, a table cell or HTML."""
    return f"<code>{_entities(cut(printable(text), longest))}</code>"


def cell(text: str) -> str:
    """Foreign text for a cell of a table. Words, numbers and times stand as they are: they can't be structure."""
    shown = one_line(text)
    return code(shown, LONGEST_MESSAGE) if SPECIAL.search(shown) else shown


def error_line(instance: str, error: ErrorInfo, icon: str = ICONS["failed"], outcome: str = "") -> str:
    """An item of a list: whose error, its code, what it says, what to do."""
    hint = f"; {code(error.hint, LONGEST_MESSAGE)}" if error.hint else ""
    return f"- {icon} {code(instance)}{outcome}: {_said(error.code, error.message)}{hint}"


def fenced(text: str, language: str) -> str:
    """Text in lines of its own, behind a fence that none of them can close."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    lines = "\n".join(map(printable, text.rstrip("\n").split("\n")))
    return f"{fence}{language}\n{lines}\n{fence}\n"


def _entities(text: str) -> str:
    return PUNCTUATION.sub(lambda found: f"&#{ord(found[0])};", text)


def _heading(report: Report) -> str:
    command = f"fivrec {_entities(printable(report.command))}"
    if report.error is not None:
        return f"❌ {command}: failed, no instance was tried"
    changes = sum(len(item.changes) for item in report.instances)
    conflicts = sum(len(item.conflicts) for item in report.instances)
    outcomes = [item.outcome for item in report.instances]
    troubles = [word for word in ("failed", "refused", "busy", "degraded") if word in outcomes]
    parts = [_counted(changes, "change")] if changes else _unchanged(outcomes, _quiet_word(report))
    parts += [_counted(conflicts, "conflict")] if conflicts else []
    former = sum(len(item.former) for item in report.instances)
    parts += [f"{former} former"] if former else []
    unpaid = len(list(_suspended_or_unpaid(report)))
    parts += [f"{unpaid} suspended or unpaid"] if unpaid else []
    parts += [f"{outcomes.count(word)} {word}" for word in (*troubles, "skipped") if word in outcomes]
    stopped = any(item.error for item in report.instances if item.outcome == "skipped")
    quiet = "✅" if "in_sync" in outcomes else "💤"
    icon = ICONS[troubles[0]] if troubles else "⚠️" if conflicts or unpaid or stopped else "📝" if changes else quiet
    return f"{icon} {command}: {', '.join(parts)}; {_counted(len(outcomes), 'instance')}"


def _quiet_word(report: Report) -> str:
    """The words for no changes: a check compares only the lock, and `drift` ignores other differences."""
    return {"check": "checked", "drift": "without drift"}.get(report.command, "in sync")


def _suspended_or_unpaid(report: Report) -> Iterator[tuple[InstanceReport, KnownStatus]]:
    """The instances for which `check` ends with 6; a status that was known already is not a change."""
    for item in report.instances if report.command == "check" else ():
        status = item.connect.status if item.connect else None
        known = KnownStatus(status.status, status.billing_status) if status else None
        if known and needs_attention(known):
            yield item, known


def _unchanged(outcomes: Sequence[str], quiet: str) -> list[str]:
    """Only a compared instance is in sync: nobody may read that of one that was skipped or could not be read."""
    in_sync = outcomes.count("in_sync")
    if in_sync < len(outcomes):
        return [f"{in_sync} {quiet}"] if in_sync else []
    return [quiet if in_sync else "nothing compared"]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _write_table(page: _Page, report: Report) -> None:
    """Instances in sync are counted, not listed."""
    listed = [item for item in report.instances if item.outcome != "in_sync" or item.conflicts or item.former]
    in_sync = len(report.instances) - len(listed)
    if listed:
        head = f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}"
        rows = [_row(item) for item in listed]
        written = _fitting((head, *rows), page.room(TABLE))
        for row in (head, *rows)[:written]:
            page.write(row)
        page.leave_out("instance in the table", len(rows) + 1 - max(written, 1))
        page.write("")
    if in_sync:
        page.write(f"✅ {_counted(in_sync, 'instance')} {_quiet_word(report)}\n")
    if report.digest and len(report.instances) > 1:
        page.write(f"Whole plan {code(report.digest)}, for {code('fivrec apply --accept')}\n")


def _fitting(texts: Iterable[str], room: int) -> int:
    """How many of the texts, from the first on, have room."""
    count = 0
    for text in texts:
        room -= len(text) + 1
        if room < 0:
            break
        count += 1
    return count


def _row(item: InstanceReport) -> str:
    actions = [change.action for change in item.changes]
    created, updated = actions.count("create"), actions.count("update")
    gone = len(actions) - created - updated
    changes = " ".join(f"{sign}{count}" for sign, count in (("+", created), ("~", updated), ("−", gone)) if count)
    status = item.connect.status if item.connect else None
    cells = (
        code(item.instance),
        item.environment,
        f"{ICONS[item.outcome]} {item.outcome}",
        changes or "0",
        str(len(item.conflicts)),
        f"{status.status}, {status.billing_status}" if status else "unknown",
    )
    return f"| {' | '.join(cells)} |"


def _write_attention(page: _Page, report: Report) -> None:
    lines = list(_attention(report))
    if not lines:
        return
    page.write("#### Needs attention\n")
    written = _fitting(lines, page.room(ATTENTION))
    for line in lines[:written]:
        page.write(line)
    page.leave_out("notice", len(lines) - written)
    page.write("")


def _attention(report: Report) -> Iterator[str]:
    """Errors, then messages of a guard or a run, then conflicts: the most serious survive a cut."""
    if report.error is not None:
        groups = group_problems(report.problems)
        places = [str(merge_problems(group)) for group in groups] or [report.error.message]
        yield from (f"- ❌ {_said(report.error.code, place)}" for place in places)
        if report.error.hint:
            yield f"- {code(report.error.hint, LONGEST_MESSAGE)}"
    for item in report.instances:
        if item.error is not None:
            yield error_line(item.instance, item.error, ICONS[item.outcome], f" {item.outcome}")
    for item, known in _suspended_or_unpaid(report):
        yield f"- ⚠️ {code(item.instance)}: Connect says {code(f'{known.status}, {known.billing_status}')}"
    for item in report.instances:
        yield from (f"- ⚠️ {code(item.instance)}: {code(note, LONGEST_MESSAGE)}" for note in item.notes)
    for item in report.instances:
        lines = (conflict_line(conflict, LONGEST) for conflict in item.conflicts)
        yield from (f"- ⚠️ {code(item.instance)} conflict: {code(line, LONGEST_MESSAGE)}" for line in lines)
    for item in report.instances:
        yield from (f"- {code(item.instance)}: {code(former_line(former), LONGEST_MESSAGE)}" for former in item.former)


def _said(error_code: str, message: str) -> str:
    return f"{code(f'[{error_code}]')} {code(one_line(message, '; '), LONGEST_MESSAGE)}"


@dataclass(frozen=True, slots=True)
class _Group:
    """Changes that several instances have in common, each as its lines."""

    instances: tuple[str, ...]
    units: tuple[str, ...]


def _find_equal(report: Report) -> dict[str, tuple[str, ...]]:
    """By its lines, each change that at least two instances have, with their names."""
    found: dict[str, list[str]] = {}
    for item in report.instances:
        for change in item.changes:
            found.setdefault(_shared_unit(item, change), []).append(item.instance)
    return {unit: tuple(names) for unit, names in found.items() if len(names) > 1}


def _group_equal(equal: dict[str, tuple[str, ...]]) -> tuple[_Group, ...]:
    """Changes of the same instances together, those of the most instances first."""
    by_instances: dict[tuple[str, ...], list[str]] = {}
    for unit, names in equal.items():
        by_instances.setdefault(names, []).append(unit)
    groups = [_Group(names, tuple(units)) for names, units in by_instances.items()]
    return tuple(sorted(groups, key=lambda group: -len(group.instances)))


def _write_group(page: _Page, group: _Group) -> None:
    """Equal changes once, with the names of their instances."""
    many = f"in {len(group.instances)} instances"
    what = code(group.units[0].partition("\n")[0]) if len(group.units) == 1 else f"{len(group.units)} equal changes"
    names = f"# {cut(printable(', '.join(group.instances)), LONGEST_NAMES)}"
    opening = f"<details><summary>{what} {many}</summary>\n\n```diff\n{names}"
    ending = "```\n\n</details>\n"
    written = _write_folded(page, opening, group.units, ending)
    page.leave_out("change", (len(group.units) - written) * len(group.instances))


def _write_block(page: _Page, item: InstanceReport, equal: Container[str]) -> None:
    """The changes of one instance alone, folded; as many of them as there is room for."""
    accepted = item.plan.accepted if item.plan else ()
    own = [change for change in item.changes if _shared_unit(item, change) not in equal]
    if not own and not accepted:
        return
    above = len(item.changes) - len(own)
    counted = _counted(len(item.changes), "change") + (f", {above} of them above" if above else "")
    opening = f"<details><summary>{code(item.instance)} ({item.environment}): {counted}</summary>\n\n```diff"
    digest = f"\n\nplan {code(item.digest)}" if item.digest else ""
    ending = f"```{digest}\n\n</details>\n"
    units = [_unit(change, since_words(change, item.since)) for change in own]
    units += [f"# {accepted_line(one)}" for one in accepted]
    written = _write_folded(page, opening, units, ending)
    page.leave_out("change", max(0, len(own) - written))
    page.leave_out("accepted difference", len(units) - max(written, len(own)))


def _write_folded(page: _Page, opening: str, units: Sequence[str], ending: str) -> int:
    """Write as many of the units as there is room for; nothing if there is room for none. Returns how many."""
    written = _fitting(units, page.room(1.0) - len(opening) - len(ending) - 2)
    for text in (opening, *units[:written], ending) if written else ():
        page.write(text)
    return written


def _shared_unit(item: InstanceReport, change: Change) -> str:
    """Its lines in a form that may equal those of other instances: the instance's own name is replaced."""
    if change.key.kind in NAMED_AFTER_INSTANCE and change.key.name == item.instance:
        change = replace(change, key=Key(change.key.kind, "(instance)"))
    return _unit(change)


def _unit(change: Change, since: str = "") -> str:
    """A change as its lines."""
    return "\n".join(
        (change_line(change) + since, *(line for one in change.fields for line in _field_lines(change, one)))
    )


def _field_lines(change: Change, item: FieldChange) -> Iterator[str]:
    name = printable(item.field)
    if item.sensitive:
        yield f"{'+' if change.action == 'create' else '~'}   {name}: {MASK}"
        return
    before, after = show_both(item.before, item.after, LONGEST)
    if change.action != "create":
        yield f"-   {name}: {before}"
    if change.action != "remove":
        yield f"+   {name}: {after}"


def _closing(page: _Page) -> str:
    counts = ", ".join(_left_out(count, what) for what, count in page.left_out.items())
    return f"**Left out to stay within {page.limit:,} characters:** {counts}. All of it: {code('-o json')}."


def _left_out(count: int, what: str) -> str:
    noun, space, rest = what.partition(" ")
    return f"{count} {noun if count == 1 else noun + 's'}{space}{rest}"
