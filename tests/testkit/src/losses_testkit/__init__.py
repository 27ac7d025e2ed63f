"""The contract that every loss is run through, for the packages of this repository and for plug-ins of others."""

from losses_testkit.case import Array, Case, Inputs, Reference
from losses_testkit.contract import LossContract, check_complete

__all__ = ["Array", "Case", "Inputs", "LossContract", "Reference", "check_complete"]
