"""Several trials at once in one process: their epochs are trained in one stack."""
