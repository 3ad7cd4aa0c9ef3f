"""The configuration: its fields, what they may be, and how a command becomes one."""
