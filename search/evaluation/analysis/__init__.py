"""Analysis of a study's trials: pure functions that open, print and store nothing."""
