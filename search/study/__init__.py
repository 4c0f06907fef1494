"""Studies in their storage: create, open, and read what they hold."""
