"""Uninformed Students (Bergmann, Fauser, Sattlegger and Steger, CVPR 2020)."""
