"""One shared encoder, several tasks, one command. `conf/` says what to run; this package says how it works."""

__version__ = "0.1.0"
