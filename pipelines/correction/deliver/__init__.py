"""Within stage 2: the generator's edit onto one upload, the white background, the gates, the encoded file."""
