"""Who works on a study, what each run owns, and whether it still lives."""
