"""A pytree as named arrays in a file, and back; ``formats`` has a file for each format."""
