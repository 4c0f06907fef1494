"""The study's page in optuna-dashboard."""
