"""distill: knowledge distillation from the command line, with an honest control beside every student."""

__version__ = "0.1.0"

# Raise by hand when the same config would give other results: finished jobs and teachers of another version are not used again.
RECIPE_VERSION = 3
