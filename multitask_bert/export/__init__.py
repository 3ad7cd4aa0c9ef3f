"""A finished run's model in the forms in which other programs use it: one file per format."""
