"""Methods: one paper, one file. METHODS names them for the command line."""

from collections.abc import Callable

from ..types import Method
from .directclr import DirectCLR
from .instdisc import InstDisc
from .moco import MoCo, end_to_end, moco_v1
from .simclr import SimCLR
from .supervised import Supervised

METHODS: dict[str, Callable[..., Method]] = {
    "simclr": SimCLR,
    "moco": MoCo,
    "moco_v1": moco_v1,
    "end_to_end": end_to_end,
    "directclr": DirectCLR,
    "instdisc": InstDisc,
    "supervised": Supervised,
}
