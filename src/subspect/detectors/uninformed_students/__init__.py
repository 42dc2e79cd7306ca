"""Uninformed Students (Bergmann et al., CVPR 2020), one concept a file."""
