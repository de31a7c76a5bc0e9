"""What a graph is made of: parameters, attentions, layers, the residual stream, tables, roles of dims."""
