"""Made-up signs."""
