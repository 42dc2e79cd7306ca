"""PaDiM, patch distribution modelling (Defard, Setkov, Loesch, Audigier, ICPR workshops 2020)."""
