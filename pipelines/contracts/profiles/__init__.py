"""What marketplaces ask of product photos: one YAML file each, and the check of a corrected image against it."""
