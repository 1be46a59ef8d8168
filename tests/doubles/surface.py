"""Classes with exactly the members and signatures that one version of a module has.

The facts are in ``tests/fixtures/trt-api``. A member that the version lacks raises AttributeError,
a wrong keyword or type TypeError, as pybind11 does. A member which it has, but for which the double
has no behaviour, raises NotImplementedError: write it, do not work around it.
"""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Mapping
from typing import Any

Overload = tuple[list[str], set[str], dict[str, str]]  # names in order, required ones, types


class PybindEnum(enum.Enum):
    """Converts to int when asked, never mixes with numbers by itself."""

    def __int__(self) -> int:
        return int(self.value)

    __index__ = __int__


class Strict(type):
    """Instances of Python subclasses must have run the constructor of the class below them."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        instance = super().__call__(*args, **kwargs)
        if not instance.__dict__.get("_constructed"):
            raise TypeError(f"{cls.__mro__[1].__name__}.__init__() must be called when overriding")
        return instance

    def make(cls, **facts: Any) -> Any:
        """An instance that only the module itself can make."""
        instance = object.__new__(cls)
        instance.__dict__["_constructed"] = True
        instance._setup(**facts)
        return instance


def make_class(name: str, spec: Mapping[str, Any], behaviour: type, module: Any) -> type:
    """One class: the members of ``spec``, with the behaviour where there is one.

    Args:
        name: of the class.
        spec: its entry in the dump.
        behaviour: has ``_setup`` for the constructor, a method for each method, and ``_get_x`` and
            ``_set_x`` for properties that do more than remember.
        module: the double under construction, for its enums.
    """
    body: dict[str, Any] = {"_trt": module, "_gpu": module._gpu, "_setup": lambda self: None}
    for base in reversed(behaviour.__mro__[:-1]):
        body.update({k: v for k, v in vars(base).items() if k.startswith("_") and k[1] != "_"})
    if hasattr(behaviour, "_destroyed"):
        body["__del__"] = behaviour._destroyed
    body["__setattr__"] = _strict_setattr(spec["properties"])
    for method, signatures in spec["methods"].items():
        if method == "__init__":
            body[method] = _constructor(name, signatures, module)
        elif method in ("__enter__", "__exit__", "__del__"):
            continue  # deprecated and without effect: left out so that nobody leans on them
        else:
            body[method] = _method(name, method, signatures, vars(behaviour).get(method), module)
    for prop, (mode, type_name) in spec["properties"].items():
        body[prop] = _property(prop, mode, type_name, behaviour, module)
    return Strict(name, (), body)


def _strict_setattr(properties: Mapping[str, Any]) -> Any:
    def setattr_(self: Any, attribute: str, value: Any) -> None:
        strict = isinstance(type(self), Strict) and type(self).__mro__[1] is object
        if strict and attribute not in properties and not attribute.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {attribute!r}")
        object.__setattr__(self, attribute, value)

    return setattr_


def _constructor(name: str, signatures: list[str], module: Any) -> Any:
    overloads = [_parse(signature) for signature in signatures if "*args" not in signature]

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if not overloads:
            raise TypeError(f"tensorrt.{name}: No constructor defined!")
        facts = _bind(f"{name}.__init__", overloads, args, kwargs, module)
        self.__dict__["_constructed"] = True
        self._setup(**facts)

    return init


def _method(name: str, method: str, signatures: list[str], function: Any, module: Any) -> Any:
    overloads = [_parse(signature) for signature in signatures if "*args" not in signature]

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = _bind(f"{name}.{method}", overloads, args, kwargs, module)
        if function is None or not bound.keys() <= set(inspect.signature(function).parameters):
            raise NotImplementedError(f"the double has no behaviour for {name}.{method}")
        return function(self, **bound)

    call.__name__ = method
    return call


def _property(prop: str, mode: str, type_name: str, behaviour: type, module: Any) -> property:
    getter = getattr(behaviour, f"_get_{prop}", None)
    setter = getattr(behaviour, f"_set_{prop}", None)
    empty = {"int": 0, "bool": False, "str": "", "float": 0.0}.get(type_name)

    def get(self: Any) -> Any:
        return getter(self) if getter else self.__dict__.get(f"_{prop}", empty)

    def set_(self: Any, value: Any) -> None:
        _check(prop, value, type_name, module)
        setter(self, value) if setter else self.__dict__.__setitem__(f"_{prop}", value)

    return property(get, set_ if mode == "rw" else None)


def _parse(signature: str) -> Overload:
    """``f(self: A, x: int, y: List[int] = None) -> B`` taken apart, without ``self``."""
    inside = signature[signature.index("(") + 1 : signature.rindex(") ->")]
    parts = re.split(r", (?![^\[]*\])", inside) if inside else []
    names, required, types = [], set(), {}
    for part in parts:
        declared, _, default = part.partition(" = ")
        name, _, type_name = declared.partition(": ")
        if name == "self":
            continue
        names.append(name)
        types[name] = type_name
        if not default:
            required.add(name)
    return names, required, types


def _bind(
    what: str, overloads: list[Overload], args: tuple[Any, ...], kwargs: dict[str, Any], module: Any
) -> dict[str, Any]:
    problem: TypeError | None = None
    for names, required, types in overloads or [([], set(), {})]:
        bound = {**dict(zip(names, args, strict=False)), **kwargs}
        twice = set(names[: len(args)]) & kwargs.keys()
        if len(args) > len(names) or twice or not required <= bound.keys() <= set(names):
            continue
        try:
            for name, value in bound.items():
                _check(name, value, types[name], module)
        except TypeError as error:
            problem = error
            continue
        return bound
    text = f"{what}(): incompatible function arguments {args} {kwargs}; known: {overloads}"
    raise TypeError(text) from problem


def _check(name: str, value: Any, type_name: str, module: Any) -> None:
    """Refuse what pybind11 would not convert."""
    plain = type_name.rpartition("::")[2].rpartition(".")[2]
    wanted = vars(module).get(plain)
    if plain == "str":
        fits = isinstance(value, str) or value is None
    elif plain in ("int", "SupportsInt"):
        fits = hasattr(value, "__index__")
    elif plain == "bool":
        fits = isinstance(value, bool)
    elif plain in ("buffer", "Buffer"):
        fits = isinstance(value, bytes | bytearray | memoryview)
    elif plain == "Dims":
        fits = isinstance(value, tuple | list) or hasattr(value, "_dims")
    elif plain in ("tuple", "list"):
        fits = type(value).__name__ == plain
    elif isinstance(wanted, type):
        fits = isinstance(value, wanted) or (value is None and not issubclass(wanted, enum.Enum))
    else:  # interfaces that the double does not have cannot be made either
        fits = value is None or not re.match("I[A-Z]", plain)
    if not fits:
        raise TypeError(f"{name}: {value!r} is no {type_name}")
