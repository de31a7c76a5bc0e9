"""Learned resampling: the operators of a plan, trained by distillation before they make the weights.

A method gives every axis its operator once and for all; here its operators are where a short training starts (LiGO,
arXiv:2303.00980; Mango, arXiv:2310.10699). ``starts`` reads the operators off the method and the alignment,
``parameters`` are what is trained of them, ``materialise`` makes weights of them, ``distil`` is all that is known of
:mod:`bot_onnx._recover`, and ``job`` does it.
"""
