"""Errors a user can mend, and the nearest right name for a wrong one."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Something given from outside is wrong. One line: what was given, what is allowed, how to mend it.

    The command line prints the message alone and exits with 2; from Python it is a ValueError.
    """


class DataError(UserError):
    """The data cannot be used: missing, empty, unreadable, or labels that do not match it."""


class BrokenItem(Exception):
    """One item cannot be read. It is skipped, counted and listed with this reason; never fatal by itself."""


class TrainingError(RuntimeError):
    """Training cannot go on, for example because the loss is not finite. The message names the step."""


def unknown(what: str, given: str, allowed: Iterable[str]) -> UserError:
    """The error for a wrong name.

    >>> print(unknown("method", "simcrl", ["moco", "simclr"]))
    unknown method 'simcrl', did you mean 'simclr'? Allowed: moco, simclr.
    """
    allowed = sorted(allowed)
    near = get_close_matches(given, allowed, n=1, cutoff=0.5)
    hint = f", did you mean '{near[0]}'?" if near else "."
    return UserError(f"unknown {what} '{given}'{hint} Allowed: {', '.join(allowed)}.")
