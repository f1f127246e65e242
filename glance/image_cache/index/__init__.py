"""Where the image cache keeps its books, in three parts, and the drivers that keep them.

`entries`, `queue` and `counters` say what each part is asked and what it must guarantee; `driver`
puts them together in one `Index`. `sqlite` and `xattr` are the drivers, each with a module for
each part.
"""
