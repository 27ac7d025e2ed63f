"""The methods of `get_class_weight`, apart from it, so that the command line lists them without torch."""

import typing
from typing import Literal

WeightMethod = Literal["inverse", "sqrt_inverse", "effective_num", "median_freq"]
WEIGHT_METHODS: tuple[str, ...] = typing.get_args(WeightMethod)
