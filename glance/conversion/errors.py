"""How a conversion ends early: with a code, or because somebody has cancelled it.

A code is what a user sees of a failure; the detail of an error is for the operator's log only,
because it may quote what is in an image.
"""

from __future__ import annotations

from glance.common import exception
from glance.image.conversion_codes import Code

__all__ = ["Cancelled", "Code", "ConversionError"]


class ConversionError(exception.Error):
    """A conversion has failed. `code` says why, `detail` tells the operator more; None: nothing.

    The text is that of the code. `detail` may quote the image: it belongs in the log alone.
    """

    def __init__(self, code: Code, detail: str | None = None):
        super().__init__(code.text)
        self.code = code
        self.detail = detail


class Cancelled(exception.Error):
    """Somebody has cancelled the conversion."""

    def __init__(self) -> None:
        super().__init__("The conversion was cancelled")
