"""The result of a conversion on its way into a store: an upload to the record that waits for it.

It is the transaction of every upload (`glance.api.upload`): staged, checked, committed, made
active in one call. What is different: a failure leaves the record queued, because the job may be
tried again, and what has become of the image in the end is up to the job.
"""

from __future__ import annotations

import logging

from glance import api
from glance.api import recovery, upload
from glance.common import exception
from glance.conversion.errors import Cancelled, Code, ConversionError
from glance.identity.context import RequestContext
from glance.image import fields, types
from glance.store import base
from glance.streaming import body

LOG = logging.getLogger(__name__)


class ResultUpload(upload.Upload):
    """The upload of a result, and its events; a conversion that is cut short emits none."""

    def emit_completed(self, record: types.ImageRecord) -> None:
        self.service.events.uploaded(self.context, record)
        self.service.events.activated(self.context, record)

    def emit_failed(self, err: BaseException) -> None:
        if not isinstance(err, Cancelled | ConversionError):
            upload.Upload.emit_failed(self, err)


class ResultDelivery:
    """Stores the result of one job as the data of an image (`glance.conversion.engine.Delivery`).

    `target` is the store, `request_id` what the registry and events call this upload.
    """

    def __init__(
        self, service: api.ImageService, image_id: int, target: base.Store, request_id: str
    ):
        self.service, self.image_id, self.target = service, image_id, target
        self._request_id = request_id

    def __call__(self, stream: body.Readable, size: int) -> None:
        """Store `size` bytes and make the image active.

        Raises Cancelled if the image is not there any more, ConversionError, and store errors.
        """
        conf = self.service.conf
        try:
            ResultUpload(
                self.service,
                self.service.account.call(self._checked),
                self.image_id,
                self.target,
                size=size,
                algorithm=conf.hashing_algorithm if conf.hash_v1_uploads else "",
                queued_size=0,
            ).receive(stream, size)
        except exception.StoreObjectExists as err:
            raise ConversionError(
                Code.CONVERSION_FAILED,
                f"the {self.target.name} store has data of image {self.image_id} that this job "
                "has not put there: remove it",
            ) from err
        except exception.StoreError:
            raise
        except (exception.NotFound, exception.ImageDeleted) as err:
            raise Cancelled() from err
        except exception.QuotaExceeded as err:
            raise ConversionError(Code.QUOTA_EXCEEDED, exception.described(err)) from err
        except (exception.Duplicate, exception.NotAuthorized) as err:
            raise ConversionError(Code.HOST_FAILED, exception.described(err)) from err

    def _checked(self, who: RequestContext) -> RequestContext:
        """Return the context of the service, with which the registry shows the image."""
        who.request_id = self._request_id
        self.service.registry.get_image_metadata(who, self.image_id)
        return who

    def remove_lost(self) -> None:
        """Remove what converters that were lost, of the same job, may have left of the result.

        Raises store errors. For a job that had begun to store its result, and only then: other
        data under the image's id is not this job's.
        """
        recovery.settle(self.service, self.service.stores.sweep())
        uri = self.target.uri_of(str(self.image_id))
        if uri is None:
            return
        try:
            self.service.stores.delete(uri)
        except exception.StoreObjectNotFound:
            return
        LOG.info("Image %s: removed what a lost converter had stored of it", self.image_id)


def image_id_of(job: types.Conversion) -> int:
    """Return the id of the image that a job makes."""
    return fields.path_id(job["image_id"])
