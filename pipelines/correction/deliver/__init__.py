"""Within stage 2, called by commit: the white background, the gates, the profile, and the encoded file."""
