"""Which teacher a run has, and how its outputs reach the student."""
