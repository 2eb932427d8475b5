"""Recipes: a run as a Python function of the data. RECIPES names them for the command line."""

from collections.abc import Callable

from ..run import Run
from .cifar10 import cifar10_moco, cifar10_simclr
from .photos import auto

RECIPES: dict[str, Callable[..., Run]] = {
    "auto": auto,
    "cifar10_simclr": cifar10_simclr,
    "cifar10_moco": cifar10_moco,
}
