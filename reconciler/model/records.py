"""`dataclass` like the standard library's, made in a tenth of the time.

Python compiles up to six methods for each dataclass and matches the text of every annotation. A no-op apply defines a
hundred of them, an eighth of its CPU time (docs/benchmarks.md). Here equality, hash, repr and the refusal of changes
are shared functions over the same fields, and __init__ is compiled only for classes with many instances. The standard
library makes classes that are not plain (_is_plain). Type checkers see its decorator.
"""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from types import FunctionType
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:
        """Like `dataclasses.dataclass`: the same options, fields, equality, hash and repr."""
        if cls is None:
            return lambda made: dataclass(made, **options)
        if not options.get("slots") or not options.keys() <= {"frozen", "slots", "eq"} or not _is_plain(cls):
            return dataclasses.dataclass(**options)(cls)
        return _make(cls, frozen=options.get("frozen", False), eq=options.get("eq", True))


@dataclasses.dataclass(frozen=True, slots=True)
class _Frozen:
    """Has what the library adds to every frozen class."""

    field: int


@dataclasses.dataclass(slots=True)
class _Open:
    """Has what the library adds to every other class."""

    field: int


def _is_plain(cls: type) -> bool:
    """Whether all fields are its own and parameters of __init__, in their order, and the class defines none of the
    methods that are made here, except __repr__."""
    own, said = cls.__dict__, _said(cls)
    given = [own[name] for name in said if name in own]
    return (
        not any(dataclasses.is_dataclass(base) for base in cls.__bases__)
        and len(said) > 0
        and _MADE.isdisjoint(own)
        and all(name in own for name in list(said)[len(said) - len(given) :])
        and all(map(_is_plain_default, given))
        and not any("InitVar" in str(one) or "KW_ONLY" in str(one) for one in said.values())
    )


def _said(cls: type) -> dict[str, Any]:
    """Returns the annotations of its fields."""
    return {name: said for name, said in cls.__annotations__.items() if "ClassVar" not in str(said)}


def _is_plain_default(value: Any) -> bool:
    if isinstance(value, dataclasses.Field):
        return value.init and value.kw_only is not True and not (_lacks_default(value) or _is_mutable(value.default))
    return not _is_mutable(value)


def _lacks_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _is_mutable(value: Any) -> bool:
    return value.__class__.__hash__ is None


_MADE = {
    *("__eq__", "__hash__", "__init__", "__setattr__", "__delattr__", "__getstate__", "__setstate__"),
    *("__slots__", "__match_args__", "__replace__"),
}


def _make(cls: type, *, frozen: bool, eq: bool) -> type:
    """Returns a new class, as only that can have __slots__, with everything that the library would add."""
    fields = _fields(cls)
    like: Any = _Frozen if frozen else _Open
    left_out = {"__dict__", "__weakref__", *fields}
    namespace = {name: value for name, value in cls.__dict__.items() if name not in left_out}
    compared = [one.name for one in fields.values() if one.compare]
    hashed = [one.name for one in fields.values() if (one.compare if one.hash is None else one.hash)]
    namespace |= {name: value for name, value in like.__dict__.items() if name in _SHARED}
    namespace |= {
        "__slots__": tuple(fields),
        "__match_args__": tuple(fields),
        "__doc__": cls.__doc__ or cls.__name__,
        "__qualname__": cls.__qualname__,
        "__dataclass_fields__": fields,
    }
    if eq:
        namespace |= {"__eq__": _equality(_values(compared)), "__hash__": _hash(_values(hashed)) if frozen else None}
    namespace.setdefault("__repr__", _repr([one.name for one in fields.values() if one.repr]))
    if frozen:
        namespace |= {"__setattr__": _set, "__delattr__": _delete}
    made: Any = type(cls)(cls.__name__, cls.__bases__, namespace)
    made.__init__ = _first_init(made, list(fields.values()))
    return made  # type: ignore[no-any-return]  # the class just made


_SHARED = {"__dataclass_params__", "__getstate__", "__setstate__", "__replace__"}


def _fields(cls: type) -> dict[str, dataclasses.Field[Any]]:
    kind = _Frozen.__dataclass_fields__["field"]._field_type  # type: ignore[attr-defined]  # what `fields` looks for
    found: dict[str, dataclasses.Field[Any]] = {}
    for name, said in _said(cls).items():
        default = cls.__dict__.get(name, dataclasses.MISSING)
        one: Any = default if isinstance(default, dataclasses.Field) else dataclasses.field(default=default)
        one.name, one.type, one._field_type, one.kw_only = name, said, kind, False
        found[name] = one
    return found


def _values(names: list[str]) -> Any:
    """Returns a function that returns these fields of an instance as one value, to compare or hash."""
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


def _first_init(cls: Any, fields: list[dataclasses.Field[Any]]) -> Any:
    """Returns an __init__ with the class's parameters, without compiling: it reuses the code of `_of_any`.

    It is slower than a compiled one, which replaces it if the class is used often: most have few instances or none in a
    run.
    """
    code = _of_any.__code__.replace(
        co_argcount=len(fields) + 1,
        co_nlocals=len(fields) + 1,
        co_varnames=("self", *(one.name for one in fields)),
        co_name="__init__",
        co_qualname=f"{cls.__qualname__}.__init__",
    )
    post = hasattr(cls, "__post_init__")
    put = object.__setattr__
    makes = _makes(fields)
    left = _SELDOM

    def assign(self: Any, values: dict[str, Any]) -> None:
        nonlocal left
        left -= 1
        if not left:
            cls.__init__ = _compiled_init(cls, fields)
        del values["self"]
        for name, value in values.items():
            put(self, name, makes[name]() if value is _ABSENT else value)
        if post:
            self.__post_init__()

    known = {"_assign": assign, "locals": locals, "__builtins__": {}}
    return _described(FunctionType(code, known, "__init__"), fields)


_SELDOM = 16
"""How many instances of a class are made before its __init__ is compiled, which costs as much as making forty."""


def _of_any(self: object) -> None:
    _assign(self, locals())  # type: ignore[name-defined]  # noqa: F821 (a global of each class's own __init__)


def _compiled_init(cls: type, fields: list[dataclasses.Field[Any]]) -> Any:
    makes = _makes(fields)
    known = {f"_make_{name}": make for name, make in makes.items()}
    known |= {"_set": object.__setattr__, "_absent": _ABSENT, "__name__": cls.__module__}
    lines = ["self, " + ", ".join(one.name for one in fields) + "):"]
    for one in fields:
        value = f"_make_{one.name}() if {one.name} is _absent else {one.name}" if one.name in makes else one.name
        lines.append(f" _set(self, {one.name!r}, {value})")
    lines += [" self.__post_init__()"] if hasattr(cls, "__post_init__") else []
    exec("def __init__(" + "\n".join(lines), known)  # noqa: S102 (names of fields)
    init: Any = known["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return _described(init, fields)


def _makes(fields: list[dataclasses.Field[Any]]) -> dict[str, Any]:
    return {one.name: one.default_factory for one in fields if one.default_factory is not dataclasses.MISSING}


def _described(init: Any, fields: list[dataclasses.Field[Any]]) -> Any:
    defaults = [_ABSENT if one.default_factory is not dataclasses.MISSING else one.default for one in fields]
    init.__defaults__ = tuple(one for one in defaults if one is not dataclasses.MISSING)
    init.__annotations__ = {**{one.name: one.type for one in fields}, "return": None}
    return init


_ABSENT = object()
"""The default of a field whose value a factory makes."""


def _set(_self: object, name: str, _value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delete(_self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
