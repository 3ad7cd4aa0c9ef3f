"""Pure helpers; they import nothing of ours."""
