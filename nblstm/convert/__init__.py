"""Converting: the weights of other programs as model files.

`torch_file.py` reads PyTorch's .pt files without PyTorch, `state_dict.py` finds the network in named tensors,
`vocabulary_file.py` reads the tokens, and `weights.py` puts a model together.
"""
