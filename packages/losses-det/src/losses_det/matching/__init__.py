"""Matching of predictions with targets: the cost of every pair, and the cheapest one-to-one assignment."""

from losses_det.matching.costs import pairwise_cost
from losses_det.matching.matcher import HungarianMatcher
from losses_det.matching.matches import Matches

__all__ = ["HungarianMatcher", "Matches", "pairwise_cost"]
