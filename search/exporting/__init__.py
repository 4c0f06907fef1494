"""Export of configurations and models, retraining and prediction."""
