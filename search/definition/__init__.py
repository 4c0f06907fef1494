"""What a study asks: the study file, read and checked."""
