"""What people type: the arguments, the help and the errors of every `finegym` command, one file a command.

In: a command line. Out: a report on standard output and an exit status. The work itself is done in the packages below,
which are imported when a command runs: its help and its errors of typing cost no import of torch.
"""
