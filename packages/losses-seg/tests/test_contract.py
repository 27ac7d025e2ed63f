from losses_testkit import LossContract, check_complete

from .cases import CASES


class TestContract(LossContract):
    cases = CASES


def test_every_loss_has_a_case():
    check_complete("losses-seg", CASES)
