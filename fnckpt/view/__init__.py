"""Pages of files, as HTML that needs no network and no script."""
