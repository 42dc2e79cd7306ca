"""Evaluation: detectors on images whose truth is known; metrics, their intervals, telling pictures."""
