"""One trial: its job, its clips, its training, its files."""
