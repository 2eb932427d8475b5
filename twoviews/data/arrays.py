"""Images in memory or behind a Python object: arrays, torch Datasets, Hugging Face datasets."""

from __future__ import annotations

import os
import threading
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import BrokenItem, DataError
from .labels import LABEL_COLUMNS, encode, pick
from .listing import Listing, Names, Store

IMAGE_KEYS = ("image", "images", "x", "img")
LABEL_KEYS = ("labels", "label", "y")


class Pixels:
    """An array (N, H, W), (N, H, W, C) or (N, C, H, W), in memory or mapped from an .npy file."""

    def __init__(self, images: np.ndarray, first: bool, path: str | None = None):
        self.images, self.first, self.path = images, first, path

    def __reduce__(self):
        return (Pixels, (self.images, self.first)) if self.path is None else (_mapped, (self.path, self.first))

    def fetch(self, index: int) -> np.ndarray:
        return channels_first(self.images[index], self.first)

    def stamp(self, index: int) -> int:
        return zlib.crc32(np.ascontiguousarray(self.images[index]).tobytes())


class Items:
    """The items of any map-style dataset. One thread at a time: a dataset need not be made for more."""

    def __init__(self, dataset: Any):
        self.dataset = dataset
        self.lock = threading.Lock()

    def __reduce__(self):
        return Items, (self.dataset,)

    def fetch(self, index: int):
        return image_of(self.item(index))

    def item(self, index: int):
        try:
            with self.lock:
                return self.dataset[index]
        except Exception as error:  # whatever the user's dataset raises says that this item cannot be had
            raise BrokenItem(f"its dataset failed: {error}") from None

    def stamp(self, index: int) -> int:
        return 0  # items may be drawn at random


class Joined:
    """Several stores, one after the other."""

    def __init__(self, listings: list[Listing]):
        self.listings = listings
        self.starts = np.cumsum([0, *(listing.count for listing in listings)])

    def _at(self, index: int) -> tuple[Store, int]:
        part = int(np.searchsorted(self.starts, index, side="right") - 1)
        return self.listings[part].store, index - int(self.starts[part])

    def fetch(self, index: int):
        store, place = self._at(index)
        return store.fetch(place)

    def stamp(self, index: int) -> int:
        store, place = self._at(index)
        return store.stamp(place)

    def load(self, index: np.ndarray) -> None:
        for listing, start in zip(self.listings, self.starts, strict=False):
            here = index - start
            listing.load(here[(here >= 0) & (here < listing.count)])


def list_array(images: Any, labels: Any = None, name: str = "array", path: str | None = None) -> Listing:
    """Images as an array or tensor, labels as integers or words. Raises DataError when shapes do not fit."""
    tensor = isinstance(images, Tensor)
    images = images.detach().cpu().numpy() if tensor else np.asarray(images)
    if images.ndim not in (3, 4) or not images.size:
        raise DataError(f"images must be (N, H, W), (N, H, W, C) or (N, C, H, W), got {images.shape} in {name}")
    codes, classes = None, None
    if labels is not None:
        codes, classes = encode(labels.cpu().numpy() if isinstance(labels, Tensor) else labels)
        if len(codes) != len(images):
            raise DataError(f"{len(images):,} images but {len(codes):,} labels in {name}")
    store = Pixels(images, _first(images.shape[1:], tensor), path and os.path.abspath(path))
    return Listing(name, store, len(images), labels=codes, classes=classes)


def list_npy(path: str, name: str) -> Listing:
    """An .npy file of images, mapped, or an .npz file with images and maybe labels. Nothing is unpickled."""
    try:
        data = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(data, np.ndarray):
            return list_array(data, None, name, path)
        with data:
            images, labels = pick(data.files, IMAGE_KEYS), pick(data.files, LABEL_KEYS)
            if images is None:
                raise DataError(f"'{path}' has no array 'images' or 'x'; it holds {', '.join(data.files)}")
            return list_array(data[images], None if labels is None else data[labels], name)
    except DataError:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        pickled = str(error).startswith(("Object arrays", "Array can't be memory-mapped"))
        why = "it holds Python objects, which are not loaded" if pickled else "not an array, or cut short"
        raise DataError(f"cannot read '{path}': {why}") from None


def list_dataset(dataset: Any, name: str) -> Listing:
    """Any object with a length and items: images, (image, label) or {"image": ..., "label": ...}.

    Labels come from its `targets` or `labels` where it has them, else every item is read once.
    """
    store = Items(dataset)
    values: Any = _known_labels(dataset)
    if values is None:
        values = _read_labels(store, len(dataset))
    codes, classes = (None, None) if values is None else encode(values, _known_classes(dataset))
    return Listing(name, store, len(dataset), labels=codes, classes=classes)


def list_huggingface(dataset: Any, name: str) -> Listing:
    """A Hugging Face `Dataset`. Its images are read undecoded, unless it has a transform of its own."""
    features = dataset.features
    image = next((n for n, f in features.items() if type(f).__name__ == "Image"), None)
    plain = dataset.with_format(None)
    named = [n for n, f in features.items() if type(f).__name__ == "ClassLabel"]
    label = pick(features, (*LABEL_COLUMNS, "labels", *named))
    codes, classes = None, None
    if label is not None:
        codes, classes = encode(plain[label][:], getattr(features[label], "names", None))
    if image is not None and dataset.format["type"] != "custom":
        dataset = plain.select_columns([image]).cast_column(image, type(features[image])(decode=False))
    return Listing(name, Items(dataset), len(dataset), labels=codes, classes=classes)


def join(parts: dict[str, Listing], name: str) -> Listing:
    """A DatasetDict, or any mapping from the name of a split to data, as one listing with splits."""
    listings = list(parts.values())
    keys = [f"{part}/{x.key(i)}".encode() for part, x in parts.items() for i in range(x.count)]
    classes = list(dict.fromkeys(c for x in listings for c in x.classes or ()))
    labels = np.concatenate([_recode(x, classes) for x in listings]) if classes else None
    split = np.repeat(np.arange(len(parts), dtype=np.int8), [x.count for x in listings])
    store = Joined(listings)
    return Listing(name, store, len(keys), Names(keys), tuple(parts), split, labels, classes or None, store.load)


def image_of(item: Any) -> Any:
    """The image in a dataset's item, as `decode` takes it. Raises BrokenItem when there is none."""
    if isinstance(item, tuple | list) and item:
        item = item[0]
    if isinstance(item, Mapping) and "bytes" not in item:
        key = pick(item, IMAGE_KEYS)
        if key is None:
            raise BrokenItem(f"its item has no 'image', only {', '.join(map(str, item))}")
        item = item[key]
    if isinstance(item, Mapping):
        item = item["bytes"] if item["bytes"] is not None else _file(item.get("path"))
    if isinstance(item, Tensor):
        return channels_first(item.detach().cpu().numpy(), _first(item.shape, tensor=True))
    if isinstance(item, np.ndarray):
        return channels_first(item, _first(item.shape, tensor=False))
    return item


def _file(path: str | None) -> bytes:
    try:
        with open(path or "", "rb") as file:
            return file.read()
    except OSError:
        raise BrokenItem(f"its file cannot be read: {path}" if path else "no image bytes in its row") from None


def _first(shape: tuple[int, ...], tensor: bool) -> bool:
    """Do the channels of (a, b, c) come first?

    Up to 4 channels settle it. Else a tensor has torch's order, and in an array it is the smaller of a and c.
    """
    if len(shape) != 3:
        return False
    return not (shape[2] <= 4 < shape[0]) if tensor else shape[2] > 4 and shape[0] < shape[2]


def channels_first(image: np.ndarray, first: bool) -> np.ndarray:
    """(H, W), (H, W, C) or (C, H, W) -> (C, H, W)."""
    if image.ndim == 2:
        return image[None]
    return image if first or image.ndim != 3 else image.transpose(2, 0, 1)


def _mapped(path: str, first: bool) -> Pixels:
    return Pixels(np.load(path, mmap_mode="r", allow_pickle=False), first, path)


def _known_labels(dataset: Any) -> np.ndarray | None:
    if hasattr(dataset, "indices") and hasattr(dataset, "dataset"):  # torch's Subset
        base = _known_labels(dataset.dataset)
        return None if base is None else base[np.asarray(dataset.indices)]
    tensors = getattr(dataset, "tensors", ())  # torch's TensorDataset
    for values in (getattr(dataset, "targets", None), getattr(dataset, "labels", None), *tensors[1:2]):
        if values is None or callable(values):
            continue
        array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
        if array.shape == (len(dataset),) and array.dtype.kind in "iubU":
            return array
    return None


def _known_classes(dataset: Any) -> list[str] | None:
    while hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    classes = getattr(dataset, "classes", None)
    return list(classes) if isinstance(classes, list | tuple) and all(isinstance(c, str) for c in classes) else None


def _label_of(item: Any) -> int | str | None:
    label = None
    if isinstance(item, Mapping):
        key = pick(item, (*LABEL_COLUMNS, "labels"))
        label = None if key is None else item[key]
    elif isinstance(item, tuple | list) and len(item) > 1:
        label = item[1]
    if isinstance(label, str):
        return label
    array = np.asarray(label.cpu() if isinstance(label, Tensor) else label)
    return int(array) if array.size == 1 and array.dtype.kind in "iub" else None


def _read_labels(store: Items, count: int) -> list[int | str | None] | None:
    values: list[int | str | None] = []
    for index in range(count):
        try:
            values.append(_label_of(store.item(index)))
        except BrokenItem:
            values.append(None)
        if index >= 31 and not any(v is not None for v in values):
            return None  # 32 items and no label: there are none
    return values if any(v is not None for v in values) else None


def _recode(listing: Listing, classes: list[str]) -> np.ndarray:
    """A part's labels as codes of the joined classes."""
    if listing.labels is None:
        return np.full(listing.count, -1, np.int64)
    table = np.array([*map(classes.index, listing.classes or ()), -1])
    return table[listing.labels]
