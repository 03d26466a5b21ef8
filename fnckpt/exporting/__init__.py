"""From a JAX function and its parameters to a file of another runtime, and running that file."""
