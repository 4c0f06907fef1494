"""Whether a search's answer can be trusted: confirmation, test part, analysis."""
