"""What keeps the checkpoints of a training: the files of a directory, and how they are written."""
