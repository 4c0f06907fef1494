"""Importers that convert data sets of other layouts."""
