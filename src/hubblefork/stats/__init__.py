"""What we conclude: baselines, metrics, samples and fractions; never torch."""
