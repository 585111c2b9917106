"""Maps of single values, and the root finder that inverts some of them."""
