"""Kernels of the losses in this package; importing it registers them."""

from losses_core._kernels import focal as focal
