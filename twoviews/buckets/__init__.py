"""Training beyond memory: nodes in partitions, edges in buckets, two partitions of the tables held at a time."""

from .training import gather, load_buckets, train_buckets

__all__ = ["gather", "load_buckets", "train_buckets"]
