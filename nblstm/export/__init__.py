"""Export: a trained model as a file for a machine without nblstm.

| format | what it is                                               | room                    |
|--------|----------------------------------------------------------|-------------------------|
| c      | one C header, a program with -DNBLSTM_MAIN               | `c.py`, `c_source.py`   |
"""

from nblstm.export.files import FORMATS, Exported, export

__all__ = ["FORMATS", "Exported", "export"]
