"""Kernels of the distillation losses; importing a module registers its kernels."""

from losses_distill._kernels import attention as attention
from losses_distill._kernels import binary_kd as binary_kd
from losses_distill._kernels import dist as dist
from losses_distill._kernels import dkd as dkd
from losses_distill._kernels import elementwise as elementwise
from losses_distill._kernels import jsd_loss as jsd_loss
from losses_distill._kernels import kd as kd
from losses_distill._kernels import pkd as pkd
from losses_distill._kernels import pkt as pkt
from losses_distill._kernels import rkd as rkd
from losses_distill._kernels import sp as sp
from losses_distill._kernels import sparse_kd as sparse_kd
