"""Leases: which runs work on a study, what each of them owns, and whether it is still alive."""
