"""--limit selects as Ansible's patterns do."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.manifest.loader import Manifest
from reconciler.manifest.selection import may_choose, select, unmatched
from reconciler.model.errors import UsageError
from reconciler.model.types import Origin

FLEET = tuple(
    Manifest(name, labels, {}, Origin("m.yaml", 1), Path())
    for name, labels in (
        ("shop-1", {"region": "br-south", "tier": "gold"}),
        ("shop-2", {"region": "br-north"}),
        ("clinic", {"region": "br-south"}),
    )
)


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        ((), ["shop-1", "shop-2", "clinic"]),
        (("shop-*",), ["shop-1", "shop-2"]),
        (("clinic", "shop-2"), ["shop-2", "clinic"]),
        (("clinic,shop-2",), ["shop-2", "clinic"]),
        (("region=br-south",), ["shop-1", "clinic"]),
        (("region=br-*", "!clinic"), ["shop-1", "shop-2"]),
        (("!region=br-south",), ["shop-2"]),
        (("tier=*",), ["shop-1"]),
        (("shop-?", "!tier=gold"), ["shop-2"]),
    ],
)
def test_chooses(patterns: tuple[str, ...], chosen: list[str]) -> None:
    assert [manifest.instance for manifest in select(FLEET, patterns)] == chosen


def test_patterns_that_choose_or_exclude_nothing_are_named() -> None:
    patterns = ("shop-1,shpo-2", "!clinc", "!clinic", "tier=gold")
    assert unmatched(FLEET, patterns) == ("--limit shpo-2 matches no instance", "--limit !clinc excludes nothing")
    assert unmatched(FLEET, ("shop-*", "!region=br-north")) == ()


COMPANIES = tuple(
    Manifest(name, {"company": company}, {}, Origin("m.yaml", 1), Path())
    for name, company in (("a", 'Padaria, "Zé" 08'), ("b", "Padaria"), ("c", "Bar [1], Centro"))
)


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ('company=Padaria, "Zé" 08', ["a"]),
        ('!company=Padaria, "Zé" 08', ["b", "c"]),
        ("company=Bar [1], Centro", ["c"]),
        ("company=Padaria,c", ["b", "c"]),
        ("company=Padaria*,c", ["a", "b", "c"]),
    ],
)
def test_a_label_with_a_comma_is_named_whole(pattern: str, chosen: list[str]) -> None:
    assert [manifest.instance for manifest in select(COMPANIES, (pattern,))] == chosen


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("clinik", "did you mean clinic?"),
        ("region=br-sout", "did you mean region=br-south, region=br-north?"),
        ("zzz", "instances are clinic, shop-1, shop-2"),
        ("!*", "instances are clinic, shop-1, shop-2"),
    ],
)
def test_no_instance_left_is_usage_and_names_what_is_near(pattern: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        select(FLEET, (pattern,))
    assert (caught.value.exit_code, caught.value.hint) == (64, hint)


@pytest.mark.parametrize("pattern", ["", " ", ",", "!", "shop-1,!", "! "])
def test_a_pattern_of_a_variable_that_is_not_set_chooses_nothing(pattern: str) -> None:
    with pytest.raises(UsageError) as caught:
        select(FLEET, ("clinic", pattern))
    assert (caught.value.message, caught.value.hint) == (
        f'--limit "{pattern}" names nothing',
        "is a variable in it not set? without --limit every instance is chosen",
    )


@pytest.mark.parametrize(
    ("patterns", "may"),
    [
        ((), True),
        (("client-*",), True),
        (("other-*",), False),
        (("region=br",), True),  # its labels are unknown
        (("!client-*",), False),
        (("client-*", "!*-1"), False),
        (("!region=br",), True),
    ],
)
def test_an_instance_whose_manifest_is_broken_may_be_chosen(patterns: tuple[str, ...], may: bool) -> None:
    assert may_choose("client-1", patterns) is may
