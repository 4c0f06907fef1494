"""Data sets of other layouts become ours."""
