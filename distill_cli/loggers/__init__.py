"""Loggers of epochs, one file each."""
