"""Where the image cache keeps its books: one driver for each kind of index."""
