"""The detectors, one folder a method; ``registry`` names them."""
