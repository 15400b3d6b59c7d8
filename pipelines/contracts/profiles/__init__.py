"""Holds marketplaces' rules for product photos, one YAML file each, and checks corrected images against them."""
