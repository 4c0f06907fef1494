"""Clips of landmarks: their file format, import, checks, splits by signer, preprocessing and batches."""

from __future__ import annotations

__version__ = "0.1.0"
