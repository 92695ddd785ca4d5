"""fivrec's frozen dataclasses behave like the standard library's in every visible way."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from reconciler.model.records import dataclass as ours


def made(decorator: Any, **options: bool) -> type:
    """Returns the same class, made by the given decorator."""

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
WITHOUT_EQ = [{"slots": True, "eq": False}, {"frozen": True, "slots": True, "eq": False}]
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


def test_a_class_keeps_its_own_methods() -> None:
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
        """Has no fields."""

    assert (Nothing() == Nothing(), hash(Nothing()) == hash(Nothing()), repr(Nothing()).endswith("Nothing()")) == (
        True,
        True,
        True,
    )


@pytest.mark.parametrize("options", WITHOUT_EQ, ids=str)
def test_without_eq_each_instance_equals_itself_alone(options: dict[str, bool]) -> None:
    for cls in (made(ours, **options), made(dataclasses.dataclass, **options)):
        one, other = cls(1), cls(1)
        assert (one == other, len({one, one, other})) == (False, 2)


T = TypeVar("T")


class Named(Mapping[str, int]):
    """Has methods of its own, and no fields."""

    name: str

    def __getitem__(self, key: str) -> int:
        return len(self.name + key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.name)

    def __len__(self) -> int:
        return len(self.name)


@pytest.mark.parametrize("decorator", [ours, dataclasses.dataclass], ids=["ours", "library"])
def test_a_class_of_plain_bases_keeps_what_they_bring(decorator: Any) -> None:
    @decorator(frozen=True, slots=True)
    class Counted(Named, Generic[T]):
        name: str
        what: T | None = None

    one: Any = Counted("ab", 1)
    assert (dict(one), one.get("c"), one == Counted("ab", 1), hash(one) == hash(Counted("ab", 1))) == (
        {"a": 3, "b": 3},
        3,
        True,
        True,
    )
    assert (isinstance(one, Mapping), repr(one).rpartition(".")[2]) == (True, "Counted(name='ab', what=1)")
    assert Counted[int]("ab").what is None  # type: ignore[misc]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_they_are_made_copied_and_matched_alike(options: dict[str, bool]) -> None:
    def seen(cls: type) -> tuple[object, ...]:
        it = cls(1, note="n")
        signature = [(one.name, one.kind, one.annotation) for one in inspect.signature(cls).parameters.values()]
        match it:
            case cls(x, y):  # type: ignore[misc]
                matched = (x, y)
        one, other = cls(1), cls(1)
        return (
            signature,
            matched,
            dataclasses.asdict(copy.deepcopy(it)) == dataclasses.asdict(it),
            one.unhashed is not other.unhashed,
            dataclasses.replace(it, y=3).y,
            cls.__dataclass_params__.frozen,  # type: ignore[attr-defined]
            cls.__match_args__,  # type: ignore[attr-defined]
        )

    assert seen(made(ours, **options)) == seen(made(dataclasses.dataclass, **options))


@pytest.mark.parametrize("given", [(), (1, 2, "n", "h", [], 9), {"z": 1}], ids=str)
def test_wrong_arguments_are_a_type_error(given: Any) -> None:
    for cls in (made(ours, **OPTIONS[0]), made(dataclasses.dataclass, **OPTIONS[0])):
        with pytest.raises(TypeError):
            cls(**given) if isinstance(given, dict) else cls(*given)


@pytest.mark.parametrize("change", [lambda it: setattr(it, "x", 2), lambda it: delattr(it, "x")], ids=["set", "delete"])
def test_nothing_of_a_frozen_one_changes(change: Any) -> None:
    it = made(ours, **OPTIONS[0])(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="field 'x'"):
        change(it)
    assert it.x == 1


def test_what_follows_init_is_called() -> None:
    @ours(frozen=True, slots=True)
    class Checked:
        x: int

        def __post_init__(self) -> None:
            if self.x < 0:
                raise ValueError(self.x)

    assert Checked(1).x == 1
    with pytest.raises(ValueError, match="-1"):
        Checked(-1)


@ours(frozen=True, slots=True)
class Kept:
    x: int
    y: tuple[int, ...] = ()


def test_they_survive_a_pickle() -> None:
    assert pickle.loads(pickle.dumps(Kept(1, (2,)))) == Kept(1, (2,))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_fortieth_instance_is_made_as_the_first(options: dict[str, bool]) -> None:
    one, two = made(ours, **options), made(dataclasses.dataclass, **options)
    given = [VALUES[number % len(VALUES)] for number in range(40)]
    assert [repr(one(*values)) for values in given] == [repr(two(*values)) for values in given]
    signatures = [[(it.name, it.kind) for it in inspect.signature(cls).parameters.values()] for cls in (one, two)]
    assert (one(1).unhashed is not one(1).unhashed, signatures[0]) == (True, signatures[1])
    for wrong in ((), (1, 2, "n", "h", [], 9)):
        with pytest.raises(TypeError):
            one(*wrong)


def test_class_variables_and_post_init_are_kept() -> None:
    @ours(frozen=True, slots=True)
    class Counted:
        kind: ClassVar[str] = "counted"
        x: int

        def __post_init__(self) -> None:
            object.__setattr__(self, "x", self.x + 1)

    assert [(Counted(number).x, Counted.kind) for number in range(40)] == [(n + 1, "counted") for n in range(40)]
    assert [field.name for field in dataclasses.fields(Counted)] == ["x"]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_class_that_inherits_is_the_standard_librarys(options: dict[str, bool]) -> None:
    base = made(ours, **options)

    @ours(**options)
    class Longer(base):  # type: ignore[misc,valid-type]
        z: int = 0

    assert [repr(Longer(number, z=2)).rpartition(".")[2] for number in range(20)] == [
        f"Longer(x={number}, y=None, note='', unhashed=[], z=2)" for number in range(20)
    ]


@pytest.mark.parametrize("wrong", [{"a": []}, {"a": 1, "b": ...}], ids=["mutable", "order"])
def test_classes_refused_by_the_library_are_refused(wrong: dict[str, Any]) -> None:
    said = dict.fromkeys(wrong, "int")
    body = {name: value for name, value in wrong.items() if value is not ...}
    with pytest.raises((ValueError, TypeError)):
        ours(frozen=True, slots=True)(type("Wrong", (), {"__annotations__": said, **body}))
