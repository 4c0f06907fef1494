"""Confirmation: the best trials of a search and its baseline, trained again with fresh seeds and compared."""
