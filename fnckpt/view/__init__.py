"""Pictures of graphs and pages of files, as HTML and SVG that need no network and no script."""
