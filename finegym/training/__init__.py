"""From one recipe to one checkpoint, on any number of processes, killed and resumed at will."""
