"""Data sets, splits, loaders and augmentation."""
