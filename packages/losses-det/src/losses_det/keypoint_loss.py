"""Object keypoint similarity as a loss (Maji et al., CVPRW 2022, arXiv 2204.06806)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack, get_args

import torch
from torch import Tensor

from losses_core import BaseLoss, LossOptions, examples
from losses_core.errors import ConfigError, InputError
from losses_core.kernels import Prepared, definition
from losses_core.utils import checks
from losses_core.utils.stable import ratio

KeypointMode = Literal["linear", "log"]
KEYPOINT_MODES: tuple[KeypointMode, ...] = get_args(KeypointMode)

COCO_SIGMAS = tuple(sigma / 1000 for sigma in (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89))
"""Standard deviation of the annotation of each keypoint of COCO, in units of the square root of the area."""

SMALLEST_AREA = 1e-9


def _prepare(pred: Any, target: Any, **options: Any) -> Prepared:
    area, visibility, sigmas, mode = (options[name] for name in ("area", "visibility", "sigmas", "mode"))
    checks.tensor("pred", pred)
    checks.tensor("target", target)
    if mode not in KEYPOINT_MODES:
        raise InputError(f"mode: expected 'linear' or 'log'; got {mode!r}.")
    if pred.ndim != 3 or pred.shape[-1] != 2:
        raise InputError(f"expected pred with keypoints of shape (N, K, 2); got {tuple(pred.shape)}.")
    checks.same_shape(pred, target)
    rows, points = pred.shape[:2]
    shown = f"pred {tuple(pred.shape)}"
    checks.shape("area", checks.tensor("area", area), (rows,), reference=shown)
    if visibility is not None:
        checks.shape("visibility", checks.tensor("visibility", visibility), (rows, points), reference=shown)
    dtype = torch.float64 if pred.dtype == torch.float64 else torch.float32
    if not isinstance(sigmas, Tensor):
        sigmas = torch.tensor(COCO_SIGMAS if sigmas is None else tuple(sigmas), dtype=dtype, device=pred.device)
    if sigmas.shape[0] != points:
        raise InputError(
            f"expected one sigma for each of the {points} keypoints of {shown}; got {sigmas.shape[0]}. "
            "Without sigmas there are the 17 of COCO: set sigmas=[…]."
        )
    options["sigmas"] = sigmas
    return pred.flatten(1), (target if target.is_floating_point() else target.to(pred.dtype)).flatten(1), options


def _has_points(pred: Tensor, target: Tensor, *, visibility: Tensor | None, **_: Any) -> Tensor | None:
    return None if visibility is None else visibility.amax(-1) > 0


@definition(layout="last", prepare=_prepare, normalizer=_has_points, rows=("area", "visibility"))
def oks_loss(
    pred: Tensor,
    target: Tensor,
    *,
    area: Tensor,
    visibility: Tensor | None = None,
    sigmas: Sequence[float] | Tensor | None = None,
    mode: KeypointMode = "linear",
    eps: float = 1e-6,
) -> Tensor:
    """f(object keypoint similarity) of each object, unreduced: see `OKSLoss`.

    Args:
        pred: keypoints (N,K,2).
        target: keypoints of the shape of ``pred``.
        area: area of each object (N,), in the square of the unit of ``pred``.
        visibility: (N,K), > 0 where a point is labelled; None: all are.
        sigmas: (K,) > 0; None: the 17 of COCO.
        mode: ``linear`` 1 - OKS, ``log`` -ln OKS.
        eps: lower bound of the OKS in ``log``.

    Returns:
        ``Unreduced``: value (N,), and a normalizer of 1, 0 for an object without a labelled point.
    """
    difference = (pred - target).unflatten(-1, (-1, 2))
    if visibility is not None:  # by a mask, as the coordinates of points without a label may be NaN
        difference = torch.where((visibility > 0).unsqueeze(-1), difference, 0)
    scale = area.clamp(min=SMALLEST_AREA).unsqueeze(-1) * (4 * torch.as_tensor(sigmas).square())
    similarity = (-0.5 * difference.square().sum(-1) / scale).exp()
    if visibility is None:
        oks = similarity.mean(-1)
    else:
        labelled = (visibility > 0).to(pred.dtype)
        oks = ratio((similarity * labelled).sum(-1), labelled.sum(-1), otherwise=1.0)
    loss: Tensor = 1 - oks if mode == "linear" else -oks.clamp(min=eps).log()
    return loss


def _draw(loss: Any, draw: examples.Draw) -> examples.Inputs:
    """Keypoints of objects of about 100 pixels, most of them labelled."""
    rows, points = draw.pred[0], draw.pred[1]
    target = 100 * draw.uniform(draw.target or draw.pred)
    call = {"area": 2e3 + 8e3 * draw.uniform((rows,)), "visibility": draw.uniform((rows, points)) > 0.2}
    return examples.Inputs(target + 10 * draw.normal(draw.pred), target, call)


def _number_of_points(loss: Any) -> int:
    return len(COCO_SIGMAS) if loss.sigmas is None else len(loss.sigmas)


def _moved(point: int) -> Any:
    def at(loss: Any, t: Tensor) -> examples.Inputs:
        """One labelled point, t to the right, of an object of area 1."""
        points = _number_of_points(loss)
        shift = torch.nn.functional.one_hot(torch.tensor(min(point, points - 1)), points).double()
        target = torch.zeros(1, points, 2, dtype=torch.float64)
        moved = torch.stack((t * shift, torch.zeros_like(shift)), -1)[None]
        return examples.Inputs(moved, target, {"area": torch.ones(1).double(), "visibility": shift[None]})

    return at


PATH = examples.Path(
    "distance of the point, in square roots of the object's area",
    "the distance",
    (-0.5, 0.5),
    {"eye (sigma 0.025)": _moved(1), "hip (sigma 0.107)": _moved(11)},
)


class OKSLoss(BaseLoss):
    r"""Object keypoint similarity, the COCO metric of keypoints, as a loss.

    .. math::
        l = 1 - \mathrm{OKS}, \qquad
        \mathrm{OKS} = \frac{\sum_k v_k \exp\!\left(-\frac{d_k^2}{2\, a\, (2 \sigma_k)^2}\right)}{\sum_k v_k}

    with :math:`d_k` the distance of a point from its target, :math:`a` the area of the object and :math:`v_k` 1 where
    the point is labelled.

    Use when: keypoints are regressed, as in YOLO-Pose: an error counts relative to the size of the object and to how
    exactly people place such a point.

    Args:
        sigmas: standard deviation of each keypoint > 0, in units of the square root of the area. Default: None, the 17
            of COCO; another number of keypoints needs its own.
        mode: ``linear`` 1 - OKS, ``log`` -ln max(OKS, eps). Default: ``linear``.
        eps: lower bound of the OKS in ``log`` > 0. Default: 1e-6.
        **options: ``loss_weight``, ``reduction``, ``avg_factor``, ``loss_name``, ``sync_dist`` of `BaseLoss`.

    Shape:
        - pred: keypoints (N,K,2).
        - target: keypoints of the shape of pred. Coordinates of points that are not labelled do not matter, NaN
          included.
        - area: keyword, (N,), required: the area of each object, in the square of the unit of pred; clamped at 1e-9.
        - visibility: keyword, (N,K), > 0 where a point is labelled. Default: all are.
        - weight: (N,).

    Returns:
        0-d for ``mean`` (Σ l / number of objects with a labelled point, or ``avg_factor``) and ``sum``, (N,) for
        ``none``. An object without a labelled point has the loss 0.

    Raises:
        InputError: a shape that does not fit, another number of keypoints than of sigmas.
        ConfigError: an option outside its range.
        TypeError: a call without ``area``.

    Example:
        >>> import torch
        >>> loss = OKSLoss(sigmas=[0.05, 0.1])
        >>> target = torch.tensor([[[10.0, 10.0], [20.0, 30.0]]])
        >>> loss(target + 3, target, area=torch.tensor([400.0]))
        tensor(0.6624)

    References:
        Maji et al., YOLO-Pose: Enhancing YOLO for Multi Person Pose Estimation Using Object Keypoint Similarity Loss,
        CVPR Workshops 2022, arXiv 2204.06806.

    Notes:
        Equals the ``KeypointLoss`` of ultralytics where every object has a labelled point. With ``linear`` a point far
        away has next to no gradient; ``log`` has one as long as another point of the object is near.
    """

    example = examples.Example(_draw, (4, 17, 2), PATH, size=_number_of_points)
    function = oks_loss

    def __init__(
        self,
        sigmas: Sequence[float] | Tensor | None = None,
        mode: KeypointMode = "linear",
        eps: float = 1e-6,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self._set_vector("sigmas", sigmas)
        self._set_vector("_coco_sigmas", COCO_SIGMAS)
        if sigmas is not None and ("sigmas" not in self._vectors or not all(sigma > 0 for sigma in sigmas)):
            raise ConfigError(f"OKSLoss: sigmas: expected numbers > 0, one per keypoint; got {sigmas!r}.")
        self.mode = checks.choice(self, "mode", mode, KEYPOINT_MODES)
        self.eps = checks.number(self, "eps", eps, above=0)

    def _options(self, pred: Tensor, keywords: Mapping[str, Any]) -> dict[str, Any]:
        name = "sigmas" if "sigmas" in self._vectors else "_coco_sigmas"
        return {
            "sigmas": self._vector(name, pred, len(getattr(self, name))),
            "area": keywords["area"],
            "visibility": keywords["visibility"],
            "mode": self.mode,
            "eps": self.eps,
        }
