"""Workers: who they are, whether they are heard, and what everyone sees of them."""
