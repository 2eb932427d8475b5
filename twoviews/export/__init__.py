"""An encoder for use elsewhere: written, loaded again by the loader of its target, compared, and only then kept.

    export_encoder(run's folder, encoder, "onnx")    ->    RUN/export-onnx/ encoder.onnx, preprocessing.json

A format is how to write it, `write(subject, folder)`, and the target's own way to read it, `load(subject, folder)`,
which returns image -> h or (h, z). To add one, write both and a line in FORMATS (write.py).

    subject.py       what is exported: the network, and the facts that a reader elsewhere needs
    weights.py       safetensors, torchvision, timm: names and numbers
    graphs.py        onnx, torch-export: names, numbers and operators
    huggingface.py   a folder to push, with its model card (card.py)

Methods that read histories have formats of their own, from tokens to scores, in histories.py; BERT's names in bert.py.
"""

from .histories import HISTORY_FORMATS, export_histories
from .huggingface import load_network
from .subject import Network, Preparation
from .write import FORMATS, export_encoder

__all__ = [
    "FORMATS",
    "HISTORY_FORMATS",
    "Network",
    "Preparation",
    "export_encoder",
    "export_histories",
    "load_network",
]
