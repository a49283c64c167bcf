"""What a task is: its targets, its loss on labels, its metrics."""
