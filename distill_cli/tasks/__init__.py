"""What a task is, one folder each."""
