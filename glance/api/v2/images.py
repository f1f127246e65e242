"""The image resource of version 2: create, list, show, change and delete.

Each handler first checks what it can check without the registry. The registry decides who sees and
who may change an image; the checks here only tell the caller sooner, or the reason.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from glance import api
from glance.api import deletion, describing, repeating, serving, sources
from glance.api.v2 import pages, patch
from glance.common import exception
from glance.http import openapi, wsgi
from glance.identity.context import CallerRequest, RequestContext
from glance.image import entity, fields, formats, search, types
from glance.registry import link

#: The id of the image in version 1, for operators who see both.
V1_ID_HEADER = "X-Openstack-Image-V1-Id"
V1_ID_HEADERS: Mapping[str, openapi.Schema] = {
    V1_ID_HEADER: {
        "type": "string",
        "pattern": "^[0-9]+$",
        "description": "The number of the image in version 1.",
    }
}
_IMAGE = openapi.json_of("Image", "The image.", V1_ID_HEADERS)


class ImageResource:
    """Handlers of `/images` and `/images/{id}`."""

    def __init__(self, service: api.ImageService):
        self.service = service
        self.registry = service.registry
        self.formats = formats.from_conf(service.conf)

    # -- reading ---------------------------------------------------------------------------------

    @openapi.operation(
        "list_images",
        parameters=openapi.query({**search.PARAMETERS, "properties": search.PROPERTIES}),
        responses={200: openapi.json_of("Images", "A page of the images.")},
    )
    def index(self, request: CallerRequest) -> wsgi.Response:
        """GET /images: one page of the images that a query finds, with a link to the next."""
        request.require_no_body()
        parameters = request.query_pairs()
        page = self.registry.find_public_images(request.context, search.parse(parameters))
        rest = json.dumps(
            {
                **pages.links(f"{entity.ROOT}/images", parameters, page.last),
                "schema": f"{entity.ROOT}/schemas/images",
            }
        )
        # PERF: the registry has written the images, which are not decoded on the way.
        data = b'{"images": %b, %b' % (page.images, rest.encode()[1:])
        return wsgi.Response(200, [("Content-Type", "application/json")], data)

    @openapi.operation("show_image", responses={200: _IMAGE})
    def show(self, request: CallerRequest, id: str) -> wsgi.Response:
        """GET or HEAD /images/{id}: an image in any status but deleted; no store is contacted."""
        request.require_no_body()
        return _response(self.registry.get_record(request.context, fields.path_uuid(id)))

    # -- creating --------------------------------------------------------------------------------

    @openapi.operation(
        "create_image",
        body=openapi.json_of("ImageToCreate", "The image."),
        responses={
            201: openapi.json_of(
                "Image",
                "The image.",
                {**describing.location_header("The URL of the image."), **V1_ID_HEADERS},
            )
        },
        errors=(exception.Conflict,),
    )
    def create(self, request: CallerRequest) -> wsgi.Response:
        """POST /images: make a queued image, to be filled with data later."""
        context = request.context
        context.require_write()
        values, properties, tags = entity.parse(request.read_json(), self.formats)
        self._check_policy(context, values, None)
        uuid = values.pop("id", None)
        self.service.policy.require_all(context, choose_uuid=uuid is not None)
        if uuid is not None:
            values["uuid"] = uuid
        if not context.is_admin and values.get("owner", context.owner) != context.owner:
            raise exception.Forbidden("Only an administrator may choose the owner of an image")
        values["properties"] = properties
        add = functools.partial(self.registry.create_record, context, values, tags or ())
        record = repeating.create(self.service, context, link.OnceCall(), add)
        self.service.events.created(context, record)
        url = self.service.image_url(request, record["uuid"], entity.ROOT)
        return _response(record, 201, ("Location", url))

    def _check_policy(
        self,
        context: RequestContext,
        values: Mapping[str, Any],
        record: types.FullRecord | None,
    ) -> None:
        """Raise Forbidden for a visibility that the policy does not let the caller choose."""
        wanted = values.get("visibility")
        if record is not None and wanted == record["visibility"]:
            return
        self.service.policy.require_all(
            context,
            publicize_image=wanted == "public",
            communitize_image=wanted == "community",
        )

    # -- changing --------------------------------------------------------------------------------

    @openapi.operation(
        "update_image",
        body=openapi.Content(
            {patch.V21: openapi.ref("Patch"), patch.V20: openapi.ref("PatchOfVersion20")},
            "What to change.",
        ),
        responses={200: _IMAGE},
        errors=(exception.UnsupportedMediaType, exception.Conflict),
    )
    def update(self, request: CallerRequest, id: str) -> wsgi.Response:
        """PATCH /images/{id}: change fields, properties and tags, all of it or nothing."""
        context = request.context
        context.require_write()
        uuid = fields.path_uuid(id)
        media_type = sources.media_type(request)
        if media_type not in patch.MEDIA_TYPES:
            raise exception.UnsupportedMediaType(
                f"A patch needs the header Content-Type: {patch.V21}, "
                f"not {media_type or 'an empty one'!r}",
                patch.MEDIA_TYPES,
            )
        operations = patch.parse(media_type, request.read_json())
        before = self._mutable(context, uuid)
        run = patch.Patch(before, is_admin=context.is_admin, formats=self.formats)
        for operation in operations:
            run.apply(operation)
        change = run.change()
        if not change:
            return _response(before)
        self._check_policy(context, change.get("set", {}), before)
        record = repeating.patch_record(self.registry, context, uuid, change)
        serving.forget_copy(request, before, record)
        self.service.events.updated(context, before, record)
        return _response(record)

    def _mutable(self, context: RequestContext, uuid: str) -> types.FullRecord:
        """Return an image that the caller may change; Forbidden for one that it may only see."""
        record = self.registry.get_record(context, uuid)
        if not context.is_image_mutable(record):
            raise exception.Forbidden(f"You are not allowed to change image {uuid}")
        return record

    # -- deleting --------------------------------------------------------------------------------

    @openapi.operation(
        "delete_image",
        responses={204: openapi.nothing("The image is deleted.")},
        errors=(exception.Conflict,),
    )
    def delete(self, request: CallerRequest, id: str) -> wsgi.Response:
        """DELETE /images/{id}: delete an image.

        The record goes at once, the data as `glance.api.deletion` says.
        """
        context = request.context
        context.require_write()
        request.require_no_body()
        record = self.registry.get_record(context, fields.path_uuid(id))
        any_owner = self.service.policy.allows("delete_any_image", context)
        if not context.is_image_deletable(record, any_owner):
            raise exception.Forbidden(f"You are not allowed to delete image {record['uuid']}")
        deletion.delete(self.service, context, record)
        serving.forget_copy(request, record)
        return wsgi.Response(204)


def _response(
    record: types.FullRecord, status: int = 200, *headers: tuple[str, str]
) -> wsgi.Response:
    """Return an image as JSON; the length is there for HEAD, too."""
    data = json.dumps(entity.to_json(record)).encode()
    return wsgi.Response(
        status,
        [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(data))),
            (V1_ID_HEADER, str(record["id"])),
            *headers,
        ],
        data,
    )
