"""`action=serve`: the predictions of a finished run over HTTP, and a page to look at."""
