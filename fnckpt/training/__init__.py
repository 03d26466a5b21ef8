"""The training loop: what decides, counts and reports; ``saving`` keeps its checkpoints."""
