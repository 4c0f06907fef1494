"""Where studies are stored, and which runs work on them."""
