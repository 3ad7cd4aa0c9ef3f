"""What somebody else's config or folder may say."""
