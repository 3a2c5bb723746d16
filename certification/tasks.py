"""What the queue can be asked to do."""
