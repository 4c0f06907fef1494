"""What a few noisy values say about a whole space: Gaussian processes over the unit cube. Knows nothing of trials."""
