"""The guides as programs: what their blocks say is run, on files that are what the guide calls them."""
