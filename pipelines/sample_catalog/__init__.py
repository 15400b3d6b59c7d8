"""A catalog of drawn products with known defects, for trying everything without photos."""
