"""Graphs drawn as SVG, their modules as boxes that open; no network, no script."""
