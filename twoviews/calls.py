"""Configuration is Python: `functools.partial` written down, changed by name and built again.

A setting like `partial(MoCo, queue=4096)` becomes {"call": "twoviews.methods.moco:MoCo", "queue": 4096, ...} with
every default beside it, and back. Defaults live in signatures and nowhere else.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from collections.abc import Callable
from functools import partial
from typing import Any

from .errors import UserError, unknown

PACKAGE = __name__.split(".")[0]


def knobs(call: Callable) -> dict[str, Any]:
    """What can be set by name: parameters with a plain value, their defaults overlaid with what `call` sets."""
    set_here = call.keywords if isinstance(call, partial) else {}
    out = {}
    for name, p in inspect.signature(function(call)).parameters.items():
        if name in set_here:
            out[name] = set_here[name]
        elif p.default is not p.empty:
            out[name] = p.default
    return out


def accepts(call: Callable, name: str) -> bool:
    return name in inspect.signature(function(call)).parameters


def function(call: Callable) -> Callable:
    return call.func if isinstance(call, partial) else call


def name(call: Callable) -> str:
    return getattr(function(call), "__name__", type(call).__name__)


def change(call: Callable, key: str, value: Any, where: str) -> partial:
    """`call` with one parameter set. `where` is its place in the run ("method"), for the error.

    Raises UserError on a name that the signature does not have or a value of another type than its default.
    """
    parameters = inspect.signature(function(call)).parameters
    if key not in parameters:
        error = unknown("setting", key, parameters)
        raise UserError(
            f"{where}.{key}: {name(call)} has no '{key}'" + str(error).removeprefix(f"unknown setting '{key}'")
        )
    default = parameters[key].default
    return partial(call, **{key: fit(value, default, f"{where}.{key}")})


def fit(value: Any, default: Any, where: str) -> Any:
    """`value` as the type of `default` (an int serves as float, a list as tuple), or a UserError."""
    if default is inspect.Parameter.empty or default is None or value is None:
        return value
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, tuple) and isinstance(value, (list, tuple)):
        return tuple(value)
    numbers = (int, float, tuple)
    if isinstance(default, numbers) and isinstance(value, numbers) and type(default) is not type(value):
        if isinstance(default, bool) or isinstance(value, bool) or isinstance(default, int):
            raise _misfit(value, default, where)
        return value
    if type(value) is not type(default) and not isinstance(value, type(default)):
        raise _misfit(value, default, where)
    return value


def _misfit(value: Any, default: Any, where: str) -> UserError:
    kinds = {"str": "text", "int": "a whole number", "float": "a number", "bool": "True or False", "tuple": "a list"}
    kind = kinds.get(type(default).__name__, type(default).__name__)
    return UserError(f"{where} must be {kind} like {default!r}, got {value!r}")


def parse(text: str) -> Any:
    """A value from the command line: a Python or JSON literal, otherwise the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        pass
    try:
        return json.loads(text)
    except ValueError:
        return text


def describe(call: Callable) -> dict[str, Any]:
    """A call as JSON. What cannot be written (an array, a Dataset) becomes {"object": "what it is"}."""
    f = function(call)
    return {"call": f"{f.__module__}:{f.__qualname__}"} | {k: _plain(v) for k, v in knobs(call).items()}


def _plain(value: Any) -> Any:
    if callable(value):
        return describe(value)
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        return {"object": f"{type(value).__module__}.{type(value).__qualname__}"}


def rebuild(description: dict[str, Any]) -> partial:
    """The inverse of `describe`. Only names inside this package are imported: a file may not choose what code runs.

    Raises UserError for a call from elsewhere or an object that was given from Python.
    """
    where, _, attribute = str(description.get("call")).partition(":")
    if where.split(".")[0] != PACKAGE or not attribute.isidentifier():
        raise UserError(
            f"'{where}:{attribute}' is not part of {PACKAGE}: a run made with your own code is rebuilt from Python"
        )
    try:
        f = getattr(importlib.import_module(where), attribute)
    except (ImportError, AttributeError):
        raise UserError(
            f"this version of {PACKAGE} has no '{where}:{attribute}'; use the version in the run's versions"
        ) from None
    parameters = inspect.signature(f).parameters
    arguments = {}
    for key, value in description.items():
        if key == "call":
            continue
        if key not in parameters:
            raise UserError(
                f"{attribute} has no '{key}' in this version of {PACKAGE}; use the version in the run's versions"
            )
        if isinstance(value, dict) and "object" in value:
            raise UserError(f"'{key}' was a {value['object']} given from Python: give it again")
        if isinstance(value, dict) and "call" in value:
            value = rebuild(value)
        arguments[key] = tuple(value) if isinstance(value, list) else value
    return partial(f, **arguments)
