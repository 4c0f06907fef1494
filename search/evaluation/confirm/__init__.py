"""Confirming: the best of a search and its baseline, trained again with fresh seeds, and what can be said then."""
