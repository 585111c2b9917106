"""What likelihood is for: evaluate, generate."""
