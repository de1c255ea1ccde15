"""What people read of a run: a page, a comparison of pages, and the card of its model."""
