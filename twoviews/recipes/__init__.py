"""Recipes: a run as a Python function of the data. RECIPES names them for the command line."""

from collections.abc import Callable

from ..run import Run
from .auto import auto, cpc, mae
from .cifar10 import cifar10_moco, cifar10_simclr
from .graphs import deepwalk, gtn, line, metapath2vec, node2vec, prone
from .histories import bert4rec, bert4rec_paper, sasrec
from .masked import photo_mae
from .predicted import cpc_photos
from .predicted_text import cpc_text
from .sounds import cpc_sounds, sound_moco, sound_simclr
from .text import word2vec
from .videos import video_cpc, video_mae, video_moco, video_simclr

RECIPES: dict[str, Callable[..., Run]] = {
    "auto": auto,
    "cifar10_simclr": cifar10_simclr,
    "cifar10_moco": cifar10_moco,
    "bert4rec": bert4rec,
    "bert4rec_paper": bert4rec_paper,
    "sasrec": sasrec,
    "metapath2vec": metapath2vec,
    "deepwalk": deepwalk,
    "node2vec": node2vec,
    "line": line,
    "prone": prone,
    "gtn": gtn,
    "word2vec": word2vec,
    "cpc": cpc,
    "cpc_sounds": cpc_sounds,
    "cpc_photos": cpc_photos,
    "cpc_text": cpc_text,
    "sound_simclr": sound_simclr,
    "sound_moco": sound_moco,
    "mae": mae,
    "photo_mae": photo_mae,
    "video_mae": video_mae,
    "video_simclr": video_simclr,
    "video_moco": video_moco,
    "video_cpc": video_cpc,
}
