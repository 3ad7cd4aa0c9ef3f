"""The embedded corpora."""
