"""What disk images are: their formats and virtual sizes, and whether they are safe to open.

An image can name other files: a backing file, a data file, extents, a parent. Whoever opens an
image that a stranger has made then reads the files of this host for the stranger. So the data is
looked at before anything opens it, in Python, in bounded time and memory, and nothing that the
image names is touched.

`inspector` looks at a file or at a stream, `verdict` is what comes out of it, and `signatures` is
the table of the formats; a module for each format, and `others`, have the rules. The package needs
only `glance.common`, so that programs can use it that have nothing to do with a server.
"""
