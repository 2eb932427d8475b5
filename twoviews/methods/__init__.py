"""Methods: one paper, one file. METHODS names them for the command line."""

from collections.abc import Callable

from ..types import Method
from .bert4rec import BERT4Rec
from .directclr import DirectCLR
from .instdisc import InstDisc
from .moco import MoCo, end_to_end, moco_v1
from .sasrec import SASRec
from .simclr import SimCLR
from .supervised import Supervised

PAIRS: dict[str, Callable[..., Method]] = {  # two embeddings of one item
    "simclr": SimCLR,
    "moco": MoCo,
    "moco_v1": moco_v1,
    "end_to_end": end_to_end,
    "directclr": DirectCLR,
    "instdisc": InstDisc,
    "supervised": Supervised,
}
BLANKS: dict[str, Callable[..., Method]] = {  # a sequence with holes, and whole
    "bert4rec": BERT4Rec,
    "sasrec": SASRec,
}
METHODS = PAIRS | BLANKS
