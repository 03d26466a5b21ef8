"""The formats of checkpoints, each in a file of its own: bytes to named arrays, and back."""
