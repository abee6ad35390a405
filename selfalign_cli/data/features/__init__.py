"""The feature file: its layout, its reader and its writer.

The HDF5 library is trusted in neither direction. Reading: the large arrays are read by position, past the library, and
everything else is checked before it is used; no text has variable length, for damage there makes the library crash or
loop. Writing: rows bypass the library, which takes three times as long, and it never hears of a failed write, after
which it could not close the file.
"""
