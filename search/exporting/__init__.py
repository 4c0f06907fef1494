"""Configurations and models, handed out."""
