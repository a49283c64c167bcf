"""The training loop and everything that fits a model."""
