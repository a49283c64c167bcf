"""Knowledge distillation from the command line.

Every student is compared with a control that is trained alike, but without a teacher.
"""

__version__ = "0.1.0"

# Raise by hand when the same config would give other results: finished jobs and teachers of another version are not used again.
RECIPE_VERSION = 3
