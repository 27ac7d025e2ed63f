"""Docstrings and formulas as plain text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from losses_core._cli._plain import plain
from losses_core._cli._tex import SYMBOLS, as_text


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (r"\frac{1}{1+e^{-x}}", "1/(1+e^(-x))"),
        (r"\frac{a}{b}\tfrac12", "a/b1/2"),
        (r"-\log\frac{q_t}{p_t}", "-log(q_t/p_t)"),
        (r"\log p_y + \max(a, b)", "log p_y + max(a, b)"),
        (r"2\log x", "2 log x"),
        (r"x^2 y^{-1} z^{n+1} w^n \Sigma^{-1}", "x² y⁻¹ z^(n+1) w^n Σ⁻¹"),
        (r"x_{ni} + y_{i+1} + w_{y_i} + e_{(k)} + \gamma_-", "x_ni + y_(i+1) + w_(y_i) + e_(k) + γ_-"),
        (r"F F^\top", "F Fᵀ"),
        (r"\hat q_c, \tilde y, \hat{ab}", "q̂_c, ỹ, hat(ab)"),
        (r"\lVert x - y \rVert_2, \left| a \right|, \big\| b \big\|, \Big(c\Big)", "‖x - y‖_2, |a|, ‖b‖, (c)"),
        (
            r"\text{over all $x \ge 0$}, \mathrm{onehot}(y), \operatorname{softmax}(z)",
            "over all x ≥ 0, onehot(y), softmax(z)",
        ),
        (r"\sqrt{1 - p}, \sqrt K", "√(1 - p), √K"),
        (r"a \cdot b \le c \in \mathbb{R}", "a · b ≤ c ∈ ℝ"),
        (r"a,\qquad b, \\ c", "a\nb\nc"),
        (r"\begin{cases} x, & |x| < 1 \\ 2x & \text{otherwise} \end{cases}", "{ x if |x| < 1; 2x otherwise }"),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "a = b\nc = d"),
        (r"H = \{1, 2\}", "H = {1, 2}"),
        (r"\binom{n}{k} \underbrace{x}", "C(n, k) x"),
        (r"\unknown{x} {unclosed", "unknown x unclosed"),
        (r"\left. x \right)", "x)"),
        (r"\displaystyle x \label{eq:1} \tag{2}", "x"),
        (r"a^* + b'^{\prime}", "a* + b'′"),
        ("", ""),
    ],
)
def test_formulas(formula: str, text: str) -> None:
    assert as_text(formula) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("``reduction`` and `BaseLoss`, ``'none'``", "reduction and BaseLoss, 'none'"),
        (":class:`~torch.nn.Module`, :meth:`forward`, :py:obj:`a.b`", "Module, forward, b"),
        (
            ":class:`a module <torch.nn.Module>` and `the paper <https://a.org>`_",
            "a module and the paper (https://a.org)",
        ),
        ("With :math:`p =\n\\sigma(x)`", "With p = σ(x)"),
        ("**bold** but **options: and 2 ** 3 ** 4", "bold but **options: and 2 ** 3 ** 4"),
        (r"\|x\| < 1", "|x| < 1"),
        (".. math:: l = \\alpha,\\qquad b\n\nText.", "    l = α\n    b\n\nText."),
        (".. math::\n    l = x\n\n    m = y\n\nText.", "    l = x\n    m = y\n\nText."),
        (
            "Args:\n    a: one.\n\n        .. math:: x^2\n\n    b: two.",
            "Args:\n    a: one.\n\n            x²\n\n    b: two.",
        ),
        (".. note:: Careful with ``a``.\n   Really.", "Note: Careful with a.\n   Really."),
        (".. code-block:: python\n\n    f(`x`)\n\nEnd.", "\n    f(`x`)\n\nEnd."),
        (".. seealso::\n   X", "Seealso:\n   X"),
        (">>> print(`a`)\n'``'", ">>> print(`a`)\n'``'"),
        ("", ""),
    ],
)
def test_docstrings(source: str, text: str) -> None:
    assert plain(source) == text


TOKENS = [
    "\\",
    "{",
    "}",
    "^",
    "_",
    "&",
    "\\frac",
    "\\begin",
    "\\end",
    "\\left",
    "|",
    "\\|",
    " ",
    "a",
    ".",
    "\\sqrt",
    "\\text",
]
TOKENS += [
    "\\hat",
    "\\\\",
    "$",
    "`",
    "``",
    ":math:`",
    "\n",
    ".. math::",
    ".. note::",
    ">>> ",
    "**",
    *(f"\\{name}" for name in SYMBOLS),
]


@given(st.lists(st.sampled_from(TOKENS), max_size=40).map("".join))
def test_anything_is_shown_somehow(text: str) -> None:
    assert isinstance(as_text(text), str)
    assert "\x01" not in plain(text)
