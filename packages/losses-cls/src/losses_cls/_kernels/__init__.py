"""Kernels of the losses in this package; importing it registers them."""

from losses_cls._kernels import asymmetric_loss as asymmetric_loss
from losses_cls._kernels import cross_entropy as cross_entropy
from losses_cls._kernels import focal_loss as focal_loss
from losses_cls._kernels import jsd_loss as jsd_loss
from losses_cls._kernels import logit_adjusted as logit_adjusted
from losses_cls._kernels import multilabel_loss as multilabel_loss
from losses_cls._kernels import poly_loss as poly_loss
from losses_cls._kernels import seesaw_loss as seesaw_loss
