"""Does a resized start train faster than a random one, and than the other methods' starts?

``corpora`` (what is learnt) → ``networks`` → ``training`` (one run, one curve) → ``starts`` (methods and controls) →
``study`` (columns of runs, cached one by one) → ``measures`` (what was saved) → ``page`` (docs/transfer.md).
"""
