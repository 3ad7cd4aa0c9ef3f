"""What is to be seen of data and results."""
