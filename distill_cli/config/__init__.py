"""Config groups, types, checks, and the building of components."""
