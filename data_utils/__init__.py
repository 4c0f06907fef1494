"""Clips of landmarks: what they are, how they are stored, read, split by signer and put into batches."""
