"""x -> logits: one file a family of networks."""
