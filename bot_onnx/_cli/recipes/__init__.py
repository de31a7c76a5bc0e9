"""Recipes: several commands on one model, written down in a file and run again where something has changed.

``read`` turns the file into steps, ``options`` a step's words into the arguments of its command, ``work`` knows what is
done already, ``job`` runs what is not, ``card`` tells of it, ``write`` makes a recipe of a command that was given.
"""
