"""Tasks: what a model is trained for. Each has a folder; here stand their names."""
