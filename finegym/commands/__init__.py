"""What people type: the arguments, the help and the errors of every `finegym` command.

In: a command line. Out: a report on standard output and an exit status. The work itself is done in the rooms below.
"""
