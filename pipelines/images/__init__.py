"""Decodes image files to uint8 pixels and encodes pixels. `decode_apart` decodes uploads in a separate process."""
