"""Between the command line and the actions: early refusals, the checked config, and errors in a line or a few."""
