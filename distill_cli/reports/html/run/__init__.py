"""The page of one run, a picture a module."""
