"""What people type: the arguments, the help and the errors of every `finegym` command, one file a command.

In: a command line. Out: a report on standard output and an exit status. This package does no work itself: that is in
the packages below, which are imported when a command runs, so that help and typing mistakes import no torch.
"""
