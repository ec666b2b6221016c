"""Exporting: a trained model as a file for a machine without nblstm.

| format | what it is                                                     | where                       |
|--------|----------------------------------------------------------------|-----------------------------|
| c      | a C header, with -DNBLSTM_MAIN a program                       | `c.py`, `c_*.py`            |
| py     | a Python file that uses NumPy where there is some              | `py.py`, `py_*.py`          |
| html   | a page that needs no network                                   | `html.py`, `html_*.py`      |
| onnx   | a graph for ONNX Runtime and the like, states in and out       | `onnx.py`, `onnx_*.py`      |

A kind of model says what its exports are in the file of its task (`language.py`, `masked.py`, `classification.py`,
`tagging.py`; `kinds.py` lists them), a cell in `cells.py`; what is not there is refused by its name. `plan.py` prepares and
rounds the numbers for the first three formats, `files.py` writes the file.
"""
