"""From the videos that people have to an indexed data set.

In: folders, archives and annotation files from strangers. Out: a prepared folder that `finegym.data` reads. This room
writes below the folder that the user named and nowhere else, and trusts no name, size or time that it is given.
"""
