"""Counts -> F1 and calibration; intervals over rows, groups and seeds."""
