"""What a run leaves on disk: its folder, best model and checkpoints; and how it is resumed from there."""
