"""Conversion of an image into another disk format, by qemu-img in a sandbox.

Formats of disks can name other files, so whoever has a crafted image converted may get files of
the converter's host, or images of others, in the result; and a crafted image can make the tool
take any amount of memory, time and disk. Therefore an image is inspected before the tool sees it,
and the tool runs where there is nothing else to open, within limits.

`engine` goes through the phases of one job. It needs `workspace` (a directory for each job),
`qemu` (what the tool is asked), `process` (one run of the tool, and what its ending means) and
`sandbox` (where it runs), and `inspection`. `launcher` is a program of its own. `formats` is the
table of the formats, `errors` that of the codes a job can end with, `options` has the options.

What does not belong here: records of images and jobs, with states and leases (they are rows of
the registry's database, which cannot import this), HTTP, the choice of a store.
"""
