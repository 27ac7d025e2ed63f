"""Distillation from a stronger teacher (Huang et al., NeurIPS 2022, arXiv 2205.10536)."""

from __future__ import annotations
dist_loss = DISTLoss = None
