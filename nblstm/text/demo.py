"""The demo text: Python's own help topics, which every Python carries."""

from __future__ import annotations

import io

from nblstm.text.sources import Source

DEMO = ":demo:"  # stands for the demo text in a list of paths


def demo_source() -> Source:
    """Open the help topics of `pydoc_data.topics`, about 700 KB of English and Python."""
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[name].strip() for name in sorted(topics)).encode()
    return Source("the demo text", lambda: io.BytesIO(text))
