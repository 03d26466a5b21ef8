"""Language models with a cache of keys and values, as directories that are served."""
