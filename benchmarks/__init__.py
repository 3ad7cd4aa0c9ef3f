"""How fast and how good ours is, beside its peers and beside simple methods. Each file is a command of its own."""
