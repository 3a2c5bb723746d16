"""Public badges: where a model stands, as a picture for other people's pages."""
