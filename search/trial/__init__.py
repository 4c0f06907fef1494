"""One trial: its job, clips, training and files."""
