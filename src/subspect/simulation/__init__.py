"""Defects that never happened, for training on normal images alone."""
