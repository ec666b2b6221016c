"""Tasks: one folder for each purpose of a model."""
