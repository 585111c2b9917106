"""Uses of a model's likelihood: evaluate, generate, represent."""
