"""From one recipe to one checkpoint, on any number of processes, killed and resumed at will.

In: a recipe, and the data and the backbone that it names. Out: a checkpoint folder, and the state from which a stopped
run resumes. This package never trains or tunes on a test split.
"""
