"""Predictions for files: classes and probabilities of their rows."""
