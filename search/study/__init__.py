"""What a study holds: made, found, read back."""
