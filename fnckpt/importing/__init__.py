"""From a file of another world to a JAX function and its parameters."""
