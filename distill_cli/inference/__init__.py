"""Predictions for files: rows in, classes and probabilities out."""
