"""All cases, in the order of the table."""

from bench.case import Case
from bench.cases import classification, detection, distillation, segmentation

CASES: dict[str, Case] = {
    case.name: case for module in (classification, detection, segmentation, distillation) for case in module.CASES
}
