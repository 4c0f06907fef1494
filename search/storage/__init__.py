"""Where studies are kept, and who works on them."""
