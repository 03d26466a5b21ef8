"""What a file holds, shown: as tables, as a page with a drawing, compared with another file."""
