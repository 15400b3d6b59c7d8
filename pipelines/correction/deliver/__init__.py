"""Within stage 2, called by commit: whitens the background, applies the gates, checks the profile, encodes the file."""
