"""The configuration: its fields and their rules, and how Hydra composes one from files and the command line."""
