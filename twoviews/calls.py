"""Configuration is Python: `functools.partial` written down, changed by name and built again.

A setting like `partial(MoCo, queue=4096)` becomes {"call": "twoviews.methods.moco:MoCo", "queue": 4096, ...} with
every default beside it, and back. Defaults live in signatures and nowhere else.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from collections.abc import Callable, Sequence
from functools import partial
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from .errors import UserError, unknown

PACKAGE = __name__.split(".")[0]
PARTS = {"data", "encoders", "methods", "optim"}  # what a run is made of
LONG = 2**16  # letters of JSON from which on a list is data, and no setting to be read in a file


def knobs(call: Callable) -> dict[str, Any]:
    """What can be set by name: the parameters' defaults, overlaid with what `call` sets."""
    signature = inspect.signature(function(call))
    set_here = given(call)
    defaults = {name: p.default for name, p in signature.parameters.items() if p.default is not p.empty}
    return {name: (defaults | set_here)[name] for name in signature.parameters if name in defaults or name in set_here}


def given(call: Callable) -> dict[str, Any]:
    """What `call` sets."""
    if not isinstance(call, partial):
        return {}
    return inspect.signature(call.func).bind_partial(*call.args, **call.keywords).arguments


def accepts(call: Callable, name: str) -> bool:
    return name in inspect.signature(function(call)).parameters


def function(call: Callable) -> Callable:
    return call.func if isinstance(call, partial) else call


def name(call: Callable) -> str:
    return getattr(function(call), "__name__", type(call).__name__)


def change(call: Callable, key: str, value: Any, where: str) -> partial:
    """`call` with one parameter set. `where` is its place in the run ("method"), for the error.

    Raises UserError on a name that the signature does not have or a value of another type than it says.
    """
    parameters = inspect.signature(function(call)).parameters
    if not parameters:
        raise UserError(f"{where}.{key}: {name(call)} has no settings")
    if key not in parameters:
        error = str(unknown("setting", key, parameters)).removeprefix(f"unknown setting '{key}'")
        raise UserError(f"{where}.{key}: {name(call)} has no '{key}'{error}")
    return partial(call, **{key: fit(value, hints(call).get(key, Any), f"{where}.{key}")})


def hints(call: Callable) -> dict[str, Any]:
    """The annotated types of a call's parameters."""
    f = function(call)
    return get_type_hints(f.__init__ if isinstance(f, type) else f)  # type: ignore[misc]


def fit(value: Any, hint: Any, where: str) -> Any:
    """`value` as its annotation asks: an int serves as float, a list as tuple. Raises UserError on another type."""
    options = get_args(hint) if isinstance(hint, UnionType) or get_origin(hint) is Union else (hint,)
    for option in options:
        kind = get_origin(option) or option
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if kind in (tuple, list, Sequence) and isinstance(value, list | tuple):
            return tuple(value)
        if kind in (int, bool, str, NoneType) and type(value) is kind:
            return value
        if kind not in KINDS and (not isinstance(kind, type) or isinstance(value, kind)):
            return value
    allowed = [KINDS.get(get_origin(o) or o, str(o)) for o in options]
    raise UserError(f"{where} must be {' or '.join(dict.fromkeys(allowed))}, got {value!r}")


KINDS = {
    float: "a number",
    int: "a whole number",
    bool: "True or False",
    str: "text",
    tuple: "a list",
    list: "a list",
    Sequence: "a list",
    NoneType: "None",
}


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
    """A call as JSON. What cannot be written (an array, a Dataset) or is long becomes {"object": "what it is"}."""
    f = function(call)
    if not hasattr(f, "__qualname__"):
        raise UserError(
            f"{f!r} is not a function with settings: give the function or class, or a functools.partial of it"
        )
    return {"call": f"{f.__module__}:{f.__qualname__}"} | {k: _plain(v) for k, v in knobs(call).items()}


def _plain(value: Any) -> Any:
    if callable(value):
        return describe(value)
    try:
        written = json.dumps(value)
        return json.loads(written) if len(written) < LONG else {"object": f"{type(value).__name__} of {len(value):,}"}
    except TypeError:
        return {"object": f"{type(value).__module__}.{type(value).__qualname__}"}


def rebuild(description: dict[str, Any]) -> partial:
    """The inverse of `describe`. Only what a run is made of, inside this package, is imported and called.

    Raises UserError for a call from elsewhere or an object that was given from Python.
    """
    where, _, attribute = str(description.get("call")).partition(":")
    if where.split(".")[:1] != [PACKAGE]:
        raise UserError(
            f"'{attribute}' of {where} is your own code, which a file may not call: "
            "give what `train` or `fit` returned, or the encoder itself, from Python"
        )
    f = None
    if where.split(".")[1:2] and where.split(".")[1] in PARTS:
        try:
            f = getattr(importlib.import_module(where), attribute, None)
        except ImportError:
            f = None
    if getattr(f, "__module__", None) != where or not callable(f):
        raise UserError(
            f"this version of {PACKAGE} has no '{where}:{attribute}'; use the version in the run's versions"
        )
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
