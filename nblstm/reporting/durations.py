"""Durations and sizes as people read them."""

from __future__ import annotations


def duration_text(seconds: float) -> str:
    """Write a time as m:ss, from an hour on as h:mm:ss: 0:05, 2:30, 1:30:00. A negative one is 0:00."""
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def hours_text(seconds: float) -> str:
    """Write a time as h:mm, where seconds do not matter: 1:30. A negative one is 0:00."""
    hours, minutes = divmod(max(0, round(seconds / 60)), 60)
    return f"{hours}:{minutes:02}"


def size_text(count: int) -> str:
    """Write so many bytes: 25.3 kB, from a million on 1.2 MB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
