"""What a study searches: its file, read and checked."""
