"""What a trained model says of texts it has not seen."""
