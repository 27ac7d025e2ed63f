"""All cases, in the order of the table."""

from bench.case import Case
from bench.cases import classification, detection, distillation, logits, segmentation, volumes

CASES: dict[str, Case] = {
    case.name: case
    for module in (classification, detection, segmentation, logits, distillation)
    for case in module.CASES
}
"""Cases that are timed and counted."""

COUNTED: dict[str, Case] = {**CASES, **{case.name: case for case in volumes.CASES}}
"""Those, and what is only counted."""
