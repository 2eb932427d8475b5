"""Objectives: pure functions of tensors."""

from .contrast import info_nce, nt_xent

__all__ = ["info_nce", "nt_xent"]
