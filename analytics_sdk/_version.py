"""The version: one literal, so that nothing has to be read at run time."""

from __future__ import annotations

__version__ = "0.1.0"
