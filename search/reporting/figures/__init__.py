"""What is drawn of a study."""
