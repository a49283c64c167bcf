"""Where the numbers of each epoch go besides the terminal: one file a logger."""
