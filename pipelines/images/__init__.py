"""Image files to uint8 pixels and back; hostile bytes are decoded in a process of their own (`decode_apart`)."""
