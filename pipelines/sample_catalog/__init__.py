"""A catalog of drawn products with known defects, for trying the jobs without photos."""
