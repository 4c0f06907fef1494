"""Synthetic data sets of made-up signs."""
