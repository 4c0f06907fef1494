"""Clips of landmarks: their file format, import, checks, splits by signer, preprocessing and batches."""
