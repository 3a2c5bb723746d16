"""Public badges: a model's status as a picture for other pages."""
