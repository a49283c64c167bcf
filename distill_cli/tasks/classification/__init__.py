"""Classification into exclusive classes."""
