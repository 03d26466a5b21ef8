"""What people have as a decoder, a file for each framework."""
