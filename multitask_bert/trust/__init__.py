"""What somebody else's configs, runs, sweeps and models may name, and what is refused (docs/trust.md)."""
