"""Maps of single values, and what computes them."""
