"""Our frozen dataclasses are the standard library's in all that can be seen of them."""

from __future__ import annotations

import dataclasses
from itertools import product
from typing import Any

import pytest

from reconciler.model.records import dataclass as ours


def made(decorator: Any, **options: bool) -> type:
    """The same class, once by each decorator."""

    class Point:
        x: int
        y: Any = None
        note: str = dataclasses.field(default="", compare=False)
        hidden: str = dataclasses.field(default="h", repr=False)
        unhashed: list[int] = dataclasses.field(default_factory=list, hash=False)

        def moved(self) -> Any:
            return dataclasses.replace(self, x=self.x + 1)

    return decorator(**options)(Point)


OPTIONS = [{"frozen": True, "slots": True}, {"frozen": True}, {"slots": True}, {}]
VALUES = [(1,), (1, (2,)), (2,), (1, None, "other note"), (1, None, "", "other"), (1, None, "", "h", [1])]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equality_hash_and_repr_are_the_standard_librarys(options: dict[str, bool]) -> None:
    one, two = made(ours, **options), made(dataclasses.dataclass, **options)
    assert [repr(one(*given)) for given in VALUES] == [repr(two(*given)) for given in VALUES]
    pairs = list(product(VALUES, VALUES))
    assert [one(*a) == one(*b) for a, b in pairs] == [two(*a) == two(*b) for a, b in pairs]
    assert one(1) != two(1)
    assert one(1).__eq__(1) is NotImplemented
    if options.get("frozen"):
        assert [hash(one(*a)) == hash(one(*b)) for a, b in pairs] == [hash(two(*a)) == hash(two(*b)) for a, b in pairs]
        with pytest.raises(dataclasses.FrozenInstanceError):
            one(1).x = 2
    else:
        assert one.__hash__ is None


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_library_s_functions_take_them(options: dict[str, bool]) -> None:
    one = made(ours, **options)
    assert (one(1).moved(), dataclasses.asdict(one(1, 2))["y"]) == (one(2), 2)
    assert [field.name for field in dataclasses.fields(one)] == ["x", "y", "note", "hidden", "unhashed"]
    assert hasattr(one(1), "__dict__") is not options.get("slots", False)


def test_what_a_class_says_itself_stays() -> None:
    @ours(frozen=True, slots=True)
    class Masked:
        secret: str

        def __repr__(self) -> str:
            return "Masked(…)"

    assert (repr(Masked("x")), Masked("x") == Masked("x"), hash(Masked("x")) == hash(Masked("x"))) == (
        "Masked(…)",
        True,
        True,
    )


def test_a_class_without_fields_equals_its_like() -> None:
    @ours(frozen=True, slots=True)
    class Nothing:
        """Has none."""

    assert (Nothing() == Nothing(), hash(Nothing()) == hash(Nothing()), repr(Nothing()).endswith("Nothing()")) == (
        True,
        True,
        True,
    )
