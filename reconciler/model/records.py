"""`dataclass` as the standard library has it, made in a third of the time for frozen ones.

Python compiles six methods for each frozen dataclass. A no-op apply defines a hundred of them, a fifth of its CPU
time (docs/benchmarks.md). Here equality, hash, repr and what refuses changes are shared functions over the same fields,
and __init__ is compiled alone; what else a dataclass is, the standard library makes. Type checkers see its decorator.
"""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:
        """As `dataclasses.dataclass`: the same options, fields, equality, hash and repr."""
        if cls is None:
            return lambda made: dataclass(made, **options)
        ours = options in ({"frozen": True, "slots": True}, {"frozen": True})
        if not ours or not {"__eq__", "__hash__", "__repr__"}.isdisjoint(cls.__dict__):
            return dataclasses.dataclass(**options)(cls)
        cls.__doc__ = cls.__doc__ or cls.__name__  # without one the library asks `inspect` for a signature
        if "slots" in options and _is_plain(cls):
            made = _freeze(dataclasses.dataclass(slots=True, init=False, repr=False, eq=False)(cls))
        else:
            made = dataclasses.dataclass(**options, repr=False, eq=False)(cls)
        fields = dataclasses.fields(made)
        made.__eq__ = _equality(_values([one.name for one in fields if one.compare]))
        hashed = [one.name for one in fields if (one.compare if one.hash is None else one.hash)]
        made.__hash__ = _hash(_values(hashed))
        made.__repr__ = _repr([one.name for one in fields if one.repr])
        return made


def _values(names: list[str]) -> Any:
    """A function that gives these fields of an instance, to be compared or hashed as one."""
    return attrgetter(*names) if names else lambda _: ()


def _equality(values: Any) -> Any:
    def __eq__(self: object, other: object) -> Any:  # noqa: N807 (what a traceback shows)
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    return __eq__


def _hash(values: Any) -> Any:
    def __hash__(self: object) -> int:  # noqa: N807
        return hash(values(self))

    return __hash__


def _repr(names: list[str]) -> Any:
    def __repr__(self: object) -> str:  # noqa: N807
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({shown})"

    return __repr__


def _is_plain(cls: type) -> bool:
    """Whether it has nothing but fields that are given to __init__, in their order."""
    own, said = cls.__dict__, cls.__annotations__
    fields = [value for value in map(own.get, said) if isinstance(value, dataclasses.Field)]
    texts = list(map(str, said.values()))
    return (
        cls.__bases__ == (object,)
        and {"__init__", "__setattr__", "__delattr__", "__getstate__", "__setstate__"}.isdisjoint(own)
        and all(one.init and one.kw_only is not True for one in fields)
        and not any("ClassVar" in text or "InitVar" in text or "KW_ONLY" in text for text in texts)
    )


def _freeze(made: Any) -> type:
    """The class with an __init__ and what else the library gives to frozen ones with slots."""
    fields = dataclasses.fields(made)
    made.__init__ = _init(fields, post=hasattr(made, "__post_init__"))
    made.__init__.__qualname__ = f"{made.__qualname__}.__init__"
    made.__init__.__annotations__ = {**{one.name: one.type for one in fields}, "return": None}
    made.__setattr__, made.__delattr__ = _set, _delete
    made.__getstate__, made.__setstate__ = _state, _restore
    made.__dataclass_params__.frozen = True
    return made  # type: ignore[no-any-return]  # the class that it was given


def _init(fields: tuple[dataclasses.Field[Any], ...], *, post: bool) -> Any:
    known: dict[str, Any] = {"_set": object.__setattr__, "_absent": _ABSENT}
    words, lines = [], []
    for number, one in enumerate(fields):
        value = one.name
        if one.default is not dataclasses.MISSING:
            known[f"_default{number}"] = one.default
            words.append(f"{one.name}=_default{number}")
        elif one.default_factory is not dataclasses.MISSING:
            known[f"_make{number}"] = one.default_factory
            words.append(f"{one.name}=_absent")
            value = f"_make{number}() if {one.name} is _absent else {one.name}"
        else:
            words.append(one.name)
        lines.append(f" _set(self, {one.name!r}, {value})")
    lines += [" self.__post_init__()"] if post else [" pass"]
    exec(f"def __init__({', '.join(['self', *words])}):\n" + "\n".join(lines), known)  # noqa: S102 (names of fields)
    return known["__init__"]


_ABSENT = object()
"""Stands for a value that a factory makes."""


def _set(_self: object, name: str, _value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delete(_self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, name) for name in self.__dataclass_fields__]


def _restore(self: Any, state: list[Any]) -> None:
    for name, value in zip(self.__dataclass_fields__, state, strict=True):
        object.__setattr__(self, name, value)
