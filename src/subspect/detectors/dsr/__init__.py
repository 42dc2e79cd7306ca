"""DSR, the dual subspace re-projection network (Zavrtanik, Kristan, Skočaj, ECCV 2022)."""
