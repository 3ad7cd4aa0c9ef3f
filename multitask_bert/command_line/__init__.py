"""Between the command line and the actions: early refusals, the checked config, short error messages."""
