"""Exporting: a trained model as a file for a machine without nblstm.

| format | what it is                                                     | where                       |
|--------|----------------------------------------------------------------|-----------------------------|
| c      | a C header, with -DNBLSTM_MAIN a program                       | `c.py`, `c_source.py`       |
| py     | a Python file that uses NumPy where there is some              | `py.py`, `py_source.py`     |
| html   | a page that needs no network                                   | `html.py`, `html_source.py` |
| onnx   | a graph for ONNX Runtime and the like, states in and out       | `onnx.py`, `protobuf.py`    |

`plan.py` prepares and rounds the numbers for the first three, `files.py` writes the file.
"""
