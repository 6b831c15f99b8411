"""How good a model is: the paper's protocol, its metrics, and what is written about them."""
