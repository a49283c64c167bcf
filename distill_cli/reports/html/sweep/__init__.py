"""The page of a sweep, a picture a module."""
