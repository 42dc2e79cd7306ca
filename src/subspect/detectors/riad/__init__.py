"""RIAD, reconstruction by inpainting (Zavrtanik, Kristan, Skočaj, Pattern Recognition 2021)."""
