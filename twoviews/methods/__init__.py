"""Methods: one paper, one file. METHODS names them for the command line."""

from .moco import MoCo, end_to_end, moco_v1
from .simclr import SimCLR
from .supervised import Supervised

METHODS = {
    "simclr": SimCLR,
    "moco": MoCo,
    "moco_v1": moco_v1,
    "end_to_end": end_to_end,
    "supervised": Supervised,
}
