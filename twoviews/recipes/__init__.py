"""Recipes: a run as a Python function of the data. RECIPES names them for the command line."""

from collections.abc import Callable

from ..run import Run
from .auto import auto
from .cifar10 import cifar10_moco, cifar10_simclr
from .histories import bert4rec, bert4rec_paper, sasrec

RECIPES: dict[str, Callable[..., Run]] = {
    "auto": auto,
    "cifar10_simclr": cifar10_simclr,
    "cifar10_moco": cifar10_moco,
    "bert4rec": bert4rec,
    "bert4rec_paper": bert4rec_paper,
    "sasrec": sasrec,
}
