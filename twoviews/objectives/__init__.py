"""Objectives: pure functions of tensors."""

from .contrast import info_nce, nt_xent, symmetric_info_nce

__all__ = ["info_nce", "nt_xent", "symmetric_info_nce"]
