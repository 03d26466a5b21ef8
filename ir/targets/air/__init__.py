"""AIR: the files that Ascend's graph engine (GE) compiles; docs/air.md."""
