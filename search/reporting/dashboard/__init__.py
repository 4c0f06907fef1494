"""A study's page in optuna-dashboard."""
