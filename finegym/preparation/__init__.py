"""From the videos that people have to an indexed data set.

In: untrusted folders, archives and annotation files. Out: a prepared folder that `finegym.data` reads. This package
writes only below the folder that the user named, and trusts no name, size or time that it is given.
"""
