"""Exporting: a trained model as a file for a machine without nblstm.

| format | what it is                                                     | where                       |
|--------|----------------------------------------------------------------|-----------------------------|
| c      | a C header, with -DNBLSTM_MAIN a program                       | `c.py`, `c_*.py`            |
| py     | a Python file that uses NumPy where there is some              | `py.py`, `py_*.py`          |
| html   | a page that needs no network                                   | `html.py`, `html_*.py`      |
| onnx   | a graph for ONNX Runtime and the like, states in and out       | `onnx.py`, `onnx_*.py`      |

`plan.py` prepares and rounds the numbers for the first three, `files.py` writes the file. A format is a renderer and its
sources: what all models share, and a file for each kind of model.
"""
