"""One form for every network: functions and bodies inlined, fused and quantised ops decomposed, one spelling.

``normalise`` runs what the file alone tells; ``spelling`` goes on with what two runs showed.
"""
