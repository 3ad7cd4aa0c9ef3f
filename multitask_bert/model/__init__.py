"""The shared encoder and the model over it."""
