"""The tests that every store driver must pass, as classes to inherit from.

The test module of a driver is a fixture and a few lines::

    class TestMyStore(WritableStoreSuite):
        @pytest.fixture
        def store(self, tmp_path):
            return mystore.Store(Conf({"mystore_dir": str(tmp_path)}))

        def contents(self, store):
            return os.listdir(store.directory)

`WritableStoreSuite` is for stores that read, write and delete, `ReadOnlyStoreSuite` for those that
only read; its test module also defines how data gets into the backend (`put`). A driver must
refuse what its capabilities do not declare, which is tested as well. After each test the backend
must be empty again.

A driver that has passed all cases once may be judged in further configurations without those that
can come to nothing new: `class TestMyStoreInParts(MyStoreSuite, differs_in="layout")` leaves out
the cases about texts and those about images of a few bytes, `differs_in="access"` the former.
"""

from __future__ import annotations

from glance.testing.store_suite.material import (
    Boom,
    Killed,
    ScriptedSource,
    failing_after,
    make_data,
)
from glance.testing.store_suite.reading import ReadOnlyStoreSuite, StoreSuite
from glance.testing.store_suite.writing import WritableStoreSuite

__all__ = [
    "Boom",
    "Killed",
    "ReadOnlyStoreSuite",
    "ScriptedSource",
    "StoreSuite",
    "WritableStoreSuite",
    "failing_after",
    "make_data",
]
