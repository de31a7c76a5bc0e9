"""Vision networks: every width and depth that ``width`` and ``layers`` can ask of them."""
