"""Loss terms, one file each, and the objective that weighs them."""
