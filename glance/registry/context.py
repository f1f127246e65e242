"""Who may see, change and share an image: the rules as pure predicates.

The same rules exist once more as SQL (`glance.registry.db.api.visible_to`); one test runs a table
of cases through both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glance.common import context


class RequestContext(context.RequestContext):
    """The caller, able to judge a loaded image.

    `image` is an image mapping. `membership` is the caller's own membership of that image, or
    None; one that was removed (`deleted`) grants nothing.
    """

    def is_image_visible(
        self, image: Mapping[str, Any], membership: Mapping[str, Any] | None = None
    ) -> bool:
        """Tell whether the caller may read the image. First rule that fits decides."""
        if self.is_admin or image["owner"] is None or image["is_public"]:
            return True
        if self.owner is None:
            return False
        return bool(self.owner == image["owner"]) or _is_live(membership)

    def is_image_mutable(self, image: Mapping[str, Any]) -> bool:
        """Tell whether the caller may change or delete the image; members may not."""
        if self.is_admin:
            return True
        return self.owner is not None and bool(self.owner == image["owner"])

    def is_image_sharable(
        self, image: Mapping[str, Any], membership: Mapping[str, Any] | None = None
    ) -> bool:
        """Tell whether the caller may change who the image is shared with."""
        if self.is_image_mutable(image):
            return True
        if self.owner is None or membership is None or not _is_live(membership):
            return False
        return bool(membership["can_share"])


def _is_live(membership: Mapping[str, Any] | None) -> bool:
    return membership is not None and not membership.get("deleted", False)
