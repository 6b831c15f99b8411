"""How good a model is: the paper's protocol, its metrics, and what is written and shown about them.

In: a checkpoint and videos. Out: scores, metrics, reports, timelines, explanations, and the page of `finegym demo`.
This package changes neither a model's weights nor a data set.
"""
