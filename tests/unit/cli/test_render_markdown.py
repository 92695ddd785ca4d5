"""render/markdown: a comment that is complete, fits the limit, and can't be broken out of."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from reconciler.cli.render.markdown import LIMIT, render
from reconciler.model.changes import FieldChange, Update
from reconciler.model.errors import ManifestProblem
from reconciler.model.types import ErrorInfo, Key, Resource
from reconciler.planning.report import InstanceReport, Report
from tests.support.examples import view
from tests.support.reports import (
    CHANGED,
    DEGRADED,
    HOSTILE,
    IN_SYNC,
    PASSWORD,
    SKIPPED,
    UPDATED,
    ended,
    hostile,
    report,
)

UNREAD = replace(DEGRADED, outcome="failed", plan=None)
LEFT = replace(SKIPPED, plan=None)
STOPPED = replace(LEFT, error=ErrorInfo("interrupted", "stopped by a signal"))

GFM = MarkdownIt("gfm-like", {"html": True, "linkify": False})


def test_the_whole_comment() -> None:
    digest = CHANGED.digest
    assert (
        render(report(CHANGED, IN_SYNC, DEGRADED))
        == f"""\
<!-- fivrec diff -->
### ⚠️ fivrec diff: 5 changes, 1 conflict, 1 degraded; 3 instances

| instance | environment | outcome | changes | conflicts | Connect |
| --- | --- | --- | --- | --- | --- |
| <code>client-a</code> | production | 📝 changed | +1 ~1 −2 | 1 | active, paid |
| <code>client-c</code> | production | ⚠️ degraded | ~1 | 0 | unknown |

✅ 1 instance in sync

#### Needs attention

- ⚠️ <code>client-c</code> degraded: <code>&#91;connect&#95;unreachable&#93;</code> \
<code>Fi&#46;V Connect cannot be reached</code>; <code>check the network</code>
- ⚠️ <code>client-a</code>: <code>1 queue row would be removed&#58; Spare</code>
- ⚠️ <code>client-a</code> conflict: <code>&#33; status&#47;client-a&#47;status&#58; expected \
&#34;active&#34;&#44; Connect says &#34;suspended&#34;</code>

<details><summary><code>&#126; queue&#47;Sales &#40;drift&#41;</code> in 2 instances</summary>

```diff
# client-a, client-c
~ queue/Sales (drift)
-   description: "old"
+   description: "new"
```

</details>

<details><summary><code>client-a</code> (production): 4 changes, 1 of them above</summary>

```diff
+ admin/a@e.com (new)
+   name: "A"
+   password: (sensitive)
- plan/plan_basic (intent, connect)
-   is_active: true
+   is_active: false
- queue/Spare (new)
-   description: "spare"
# queue/Night/description: accepted drift, no end: a campaign
```

plan <code>{digest}</code>

</details>"""
    )


def test_all_in_sync_is_short() -> None:
    assert (
        render(report(IN_SYNC))
        == "<!-- fivrec diff -->\n### ✅ fivrec diff: in sync; 1 instance\n\n✅ 1 instance in sync"
    )


@pytest.mark.parametrize(("command", "words"), [("check", "checked"), ("drift", "without drift")])
def test_no_change_of_a_command_that_compares_not_all_is_not_in_sync(command: str, words: str) -> None:
    comment = render(replace(report(IN_SYNC), command=command))
    assert comment == (
        f"<!-- fivrec {command} -->\n### ✅ fivrec {command}: {words}; 1 instance\n\n✅ 1 instance {words}"
    )


def test_a_check_always_names_suspended_or_unpaid_instances() -> None:
    suspended = ended("client-x", "in_sync", connect=view("suspended", "overdue"))
    comment = render(report(suspended, IN_SYNC, command="check"))
    assert comment == (
        "<!-- fivrec check -->\n### ⚠️ fivrec check: checked, 1 suspended or unpaid; 2 instances\n\n"
        "✅ 2 instances checked\n\n#### Needs attention\n\n"
        "- ⚠️ <code>client-x</code>: Connect says <code>suspended&#44; overdue</code>"
    )
    assert "suspended" not in render(report(suspended, IN_SYNC))


@pytest.mark.parametrize(
    ("instances", "heading"),
    [
        ((IN_SYNC, UNREAD), "❌ fivrec diff: 1 in sync, 1 failed; 2 instances"),
        ((UNREAD,), "❌ fivrec diff: 1 failed; 1 instance"),
        ((IN_SYNC, LEFT), "✅ fivrec diff: 1 in sync, 1 skipped; 2 instances"),
        ((IN_SYNC, STOPPED), "⚠️ fivrec diff: 1 in sync, 1 skipped; 2 instances"),
        ((LEFT,), "💤 fivrec diff: 1 skipped; 1 instance"),
        ((), "💤 fivrec diff: nothing compared; 0 instances"),
    ],
)
def test_instances_not_compared_are_not_called_in_sync(instances: tuple[InstanceReport, ...], heading: str) -> None:
    assert texts(render(report(*instances)))[0] == heading


def test_an_error_of_the_run_lists_every_problem() -> None:
    problems = (
        ManifestProblem("a.yaml", 3, 5, 'unknown key "quues"', 'did you mean "queues"?'),
        ManifestProblem("b.yaml", 1, 1, "empty document"),
    )
    error = ErrorInfo("manifest_invalid", "\n".join(map(str, problems)))
    assert texts(render(report(error=error, problems=problems))) == [
        "❌ fivrec diff: failed, no instance was tried",
        "Needs attention",
        '❌ [manifest_invalid] a.yaml:3:5: unknown key "quues" (did you mean "queues"?)',
        "❌ [manifest_invalid] b.yaml:1:1: empty document",
    ]


def test_no_secret_is_shown() -> None:
    assert PASSWORD not in render(report(CHANGED))


def test_what_needs_attention_comes_before_the_changes() -> None:
    text = render(report(CHANGED, DEGRADED))
    assert text.index("cannot be reached") < text.index("conflict:") < text.index("<details>")


class Page(HTMLParser):
    """The tags of a rendered page with their attributes, and its text outside code."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.outside = ""
        self.closed_wrongly = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.closed_wrongly |= not self.open or self.open.pop() != tag

    def handle_data(self, data: str) -> None:
        if "code" not in self.open:
            self.outside += data


def page(text: str) -> Page:
    parsed = Page()
    parsed.feed(GFM.render(text))
    parsed.close()
    return parsed


def texts(text: str) -> list[str]:
    """Returns the text of each heading and list item as readers see it."""
    html = GFM.render(text)
    found = re.findall(r"<(h3|h4|li)>(.*?)</\1>", html, re.DOTALL)
    return [_plain(item) for _, item in found]


def _plain(html: str) -> str:
    parsed: list[str] = []
    parser = HTMLParser(convert_charrefs=True)
    parser.handle_data = parsed.append  # type: ignore[method-assign]
    parser.feed(html)
    parser.close()
    return "".join(parsed)


def structure(report: Report) -> tuple[list[tuple[str, tuple[tuple[str, str | None], ...]]], str]:
    parsed = page(render(report))
    assert not parsed.closed_wrongly
    assert parsed.open == []
    return parsed.tags, parsed.outside


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_is_never_structure(text: str) -> None:
    """The page has the same tags, and the same text outside code, as with a harmless word."""
    assert structure(hostile(text)) == structure(hostile("harmless"))


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_notifies_nobody_and_steers_no_terminal(text: str) -> None:
    comment = render(hostile(text))
    assert "@" not in re.sub(r"```diff\n.*?\n```", "", comment, flags=re.DOTALL)
    assert all(char.isprintable() or char == "\n" for char in comment)
    comment.encode()


@pytest.mark.parametrize("text", HOSTILE)
def test_lines_inside_a_fence_begin_with_a_sign(text: str) -> None:
    (fence,) = re.findall(r"```diff\n(.*?)\n```\n", render(hostile(text)), re.DOTALL)
    assert {line[:2] for line in fence.splitlines()} == {"+ ", "- ", "~ ", "# "}


def many(instances: int, changes: int, *, size: int = 40) -> Report:
    """Returns a report of many changes, no two of them equal."""
    return report(*(_changed(f"client-{number}", changes, size, f"{number}") for number in range(instances)))


def _changed(name: str, changes: int, size: int, before: str = "") -> InstanceReport:
    updates = tuple(
        Update(
            Key("queue", f"q{number}"),
            (FieldChange("description", before + "x" * size, "y" * size),),
            "manifest",
            "drift",
            Resource(Key("queue", f"q{number}"), {}),
            Resource(Key("queue", f"q{number}"), {}),
        )
        for number in range(changes)
    )
    return ended(name, "changed", updates)


def test_equal_changes_are_shown_once_with_their_instances() -> None:
    comment = render(report(*(_changed(f"client-{number}", 2, 5) for number in range(50)), digest="0123456789abcdef"))
    names = ", ".join(f"client-{number}" for number in range(50))
    assert (
        comment.partition("#### ")[0].partition("Whole plan ")[2]
        == f"""\
<code>0123456789abcdef</code>, for <code>fivrec apply --accept</code>

<details><summary>2 equal changes in 50 instances</summary>

```diff
# {names}
~ queue/q0 (drift)
-   description: "xxxxx"
+   description: "yyyyy"
~ queue/q1 (drift)
-   description: "xxxxx"
+   description: "yyyyy"
```

</details>"""
    )


def test_changes_named_after_their_instance_are_grouped_too() -> None:
    def item(name: str, before: str) -> InstanceReport:
        key = Key("config", name)
        field = FieldChange("check_interval_minutes", before, 60)
        return ended(
            name, "changed", (Update(key, (field,), "manifest", "drift", Resource(key, {}), Resource(key, {})),)
        )

    comment = render(report(item("a", "30"), item("b", "30"), item("c", "5")))
    assert "in 2 instances</summary>\n\n```diff\n# a, b\n~ config/(instance) (drift)\n" in comment
    assert "(production): 1 change</summary>\n\n```diff\n~ config/c (drift)\n" in comment


@pytest.mark.parametrize(("instances", "changes"), [(1, 5_000), (5_000, 1), (300, 30), (40, 400)])
def test_a_long_comment_is_cut_and_says_what_is_omitted(instances: int, changes: int) -> None:
    source = many(instances, changes)
    comment = render(source)
    assert len(comment) <= LIMIT
    assert len(comment) > LIMIT * 0.6
    parsed = page(comment)
    assert not parsed.closed_wrongly
    assert parsed.open == []
    shown_changes = len(re.findall(r"^~ queue/", comment, re.MULTILINE))
    shown_rows = comment.count("| <code>client-")
    left_out = re.findall(r"(\d+) (instance|change)s?(?=[ ,.])", comment.splitlines()[-1])
    counts = {noun: int(number) for number, noun in left_out}
    assert counts.get("change", 0) == instances * changes - shown_changes
    assert counts.get("instance", 0) == instances - shown_rows


def test_errors_survive_a_cut_that_changes_do_not() -> None:
    failed = [
        ended(f"broken-{number}", "failed", exit_code=1, error=ErrorInfo("x", "it broke")) for number in range(20)
    ]
    source = many(200, 20)
    comment = render(replace(source, instances=(*source.instances, *failed)))
    assert comment.count("it broke") == 20


def test_lines_that_need_attention_are_counted_when_left_out() -> None:
    failed = [ended(f"broken-{number}", "failed", error=ErrorInfo("x", "m" * 500)) for number in range(500)]
    comment = render(report(*failed))
    left_out = 500 - comment.count("m" * 500)
    assert 0 < left_out < 500
    assert f" {left_out} notices." in comment
    assert len(comment) <= LIMIT


def test_a_long_value_is_cut() -> None:
    (change,) = many(1, 1, size=100_000).instances[0].changes
    comment = render(report(ended("client-a", "changed", (change,))))
    assert len(comment) < 2_000
    assert "x…" in comment


def test_a_skipped_instance_shows_what_waits() -> None:
    assert UPDATED in SKIPPED.changes
    comment = render(report(SKIPPED))
    assert "💤 skipped" in comment
    assert "~ queue/Sales (drift)" in comment
