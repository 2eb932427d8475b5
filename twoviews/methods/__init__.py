"""Methods: one paper, one file. METHODS names them for the command line."""

from collections.abc import Callable

from ..types import Method
from .bert4rec import BERT4Rec
from .cpc import CPC
from .deepwalk import deepwalk
from .directclr import DirectCLR
from .gtn import GTN
from .instdisc import InstDisc
from .line import LINE
from .mae import MAE
from .metapath2vec import metapath2vec
from .moco import MoCo, end_to_end, moco_v1
from .node2vec import node2vec
from .prone import ProNE
from .sasrec import SASRec
from .simclr import SimCLR
from .supervised import Supervised
from .word2vec import SkipGram

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
TABLES: dict[str, Callable[..., Method]] = {  # a vector for each node or word
    "word2vec": SkipGram,
    "deepwalk": deepwalk,
    "node2vec": node2vec,
    "metapath2vec": metapath2vec,
    "line": LINE,
    "prone": ProNE,
}
AHEAD: dict[str, Callable[..., Method]] = {  # a thing in parts that follow each other
    "cpc": CPC,
}
HIDDEN: dict[str, Callable[..., Method]] = {  # parts of a picture or clip, to be drawn again
    "mae": MAE,
}
METHODS = PAIRS | BLANKS | AHEAD | HIDDEN | TABLES | {"gtn": GTN}
