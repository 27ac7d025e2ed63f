"""The assignment problem: one-to-one pairs of rows and columns with the least total cost."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

try:
    import numpy as np
except ImportError as error:  # torch does not require it
    raise ImportError("losses_det.matching needs numpy: pip install numpy") from error

Array: TypeAlias = "np.ndarray[Any, Any]"
Solver: TypeAlias = Callable[[Array], tuple[Array, Array]]
SolverName = Literal["auto", "scipy", "own"]


def solver_named(name: SolverName) -> Solver:
    """The function of a solver: rows, ascending, and columns of a matrix of finite numbers.

    Raises:
        ImportError: ``scipy`` is asked for and not installed.
    """
    if name != "own":
        try:
            solver: Solver = importlib.import_module("scipy.optimize").linear_sum_assignment
            return solver
        except ImportError as error:
            if name == "scipy":
                raise ImportError("solver='scipy': pip install scipy, or use solver='own'") from error
    return solve


def replace_nonfinite(cost: Array) -> Array:
    """The matrix with one number for all that is inf or NaN.

    It is higher than what any other choice of pairs could save, so such a pair is chosen only if nothing else is left.
    """
    finite = np.isfinite(cost)
    low, high = (float(end(cost[finite], initial=0.0)) for end in (np.min, np.max))
    return np.where(finite, cost, high + min(cost.shape) * (high - low) + max(high, 1.0))


def solve(cost: Array) -> tuple[Array, Array]:
    """Solve the assignment problem by shortest augmenting paths.

    Crouse, On Implementing 2D Rectangular Assignment Algorithms, IEEE Transactions on Aerospace and Electronic Systems
    52(4), 2016.

    Args:
        cost: (n,m), finite.

    Returns:
        Rows, ascending, and columns of min(n, m) pairs.
    """
    if cost.shape[0] > cost.shape[1]:
        columns, rows = solve(cost.T)
        order = np.argsort(rows)
        return rows[order], columns[order]
    cost = np.asarray(cost, np.float64)
    count, width = cost.shape
    of_row, of_column = np.full(count, -1), np.full(width, -1)
    price_row, price_column = np.zeros(count), np.zeros(width)
    for start in range(count):
        distance, parent = np.full(width, np.inf), np.full(width, -1)
        done = np.zeros(width, bool)
        row, length = start, 0.0
        while True:
            reached = length + cost[row] - price_row[row] - price_column
            closer = ~done & (reached < distance)
            distance[closer], parent[closer] = reached[closer], row
            column = int(np.where(done, np.inf, distance).argmin())
            length, done[column] = distance[column], True
            row = int(of_column[column])
            if row < 0:
                break
        passed = done.copy()
        passed[column] = False
        price_row[start] += length
        price_row[of_column[passed]] += length - distance[passed]
        price_column[passed] -= length - distance[passed]
        row = -1
        while row != start:
            row = int(parent[column])
            of_column[column] = row
            of_row[row], column = column, int(of_row[row])
    return np.arange(count), of_row
