"""Several labels a sample that do not exclude each other."""
