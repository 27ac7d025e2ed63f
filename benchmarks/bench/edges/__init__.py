"""Inputs at the edge of what a loss can be given, and what each library makes of them."""
