"""The commands, one file each: it defines ``command``, and its name is the command's (``import_`` is ``import``).

A file that is added is a command that is added: ``short_help`` is its line in the overview, its first sentence where
there is none. A file imports nothing that costs time but when it runs, for the overview imports them all.
"""
