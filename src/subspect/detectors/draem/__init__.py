"""DRAEM, the discriminatively trained reconstruction embedding (Zavrtanik, Kristan, Skočaj, ICCV 2021)."""
