"""Names that are not what they look like, in every format that a reviewer reads."""

from __future__ import annotations

from dataclasses import replace

import click
import pytest

from reconciler.cli.render.codequality import render as codequality
from reconciler.cli.render.junit import render as junit
from reconciler.cli.render.markdown import render as markdown
from reconciler.cli.render.text import render as text
from reconciler.model.changes import FieldChange, Update
from reconciler.model.types import Key
from reconciler.planning.report import Report
from tests.support.reports import DEGRADED, report


def deceptive() -> Report:
    (update,) = DEGRADED.changes
    assert isinstance(update, Update)
    change = replace(update, key=Key("queue", "S\u0430les"), fields=(FieldChange("description", "\u3164", "p\u0430y"),))
    return report(replace(DEGRADED, plan=replace(DEGRADED.plan, changes=(change,))))  # type: ignore[type-var]


FORMS = {"text": lambda: text(deceptive(), fields=True), "markdown": lambda: markdown(deceptive())}


@pytest.mark.parametrize("form", FORMS)
def test_mixed_scripts_are_marked_and_the_invisible_is_escaped(form: str) -> None:
    shown = click.unstyle(FORMS[form]())
    assert "queue/S\u0430les [mixed scripts: Cyrillic, Latin] (drift)" in shown
    assert '"\\u3164"' in shown
    assert '"p\u0430y" [mixed scripts: Cyrillic, Latin]' in shown


@pytest.mark.parametrize("common", ["x" * 400, "\u200b" * 60])
def test_a_change_at_the_end_of_a_long_value_is_shown(common: str) -> None:
    (update,) = DEGRADED.changes
    assert isinstance(update, Update)
    fields = (FieldChange("description", f"{common} ours", f"{common} theirs, {'y' * 400}"),)
    changed = replace(DEGRADED, plan=replace(DEGRADED.plan, changes=(replace(update, fields=fields),)))  # type: ignore[type-var]
    for shown in (click.unstyle(text(report(changed), fields=True)), markdown(report(changed))):
        assert ' ours"' in shown
        assert " theirs, yyy" in shown
        assert "y" * 300 not in shown


@pytest.mark.parametrize("render", [codequality, junit])
def test_other_forms_mark_the_resource(render: object) -> None:
    assert callable(render)
    assert "[mixed scripts: Cyrillic, Latin]" in render(deceptive())
