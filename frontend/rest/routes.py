"""Which path leads to which handler. Names are parsed from the raw path, so that no slash or
escape in them is lost."""

from typing import Any

from frontend.rest.buckets import BucketHandler, BucketsHandler
from frontend.rest.cluster import ClusterHandler, MaintenanceHandler, StatusHandler
from frontend.rest.handler import Surface
from frontend.rest.listings import ObjectsHandler
from frontend.rest.locate import LocateHandler
from frontend.rest.objects import ObjectHandler
from frontend.rest.versions import BucketVersionsHandler, VersionLinesHandler


def native_routes(surface: Surface) -> list[Any]:
    """Routes for `serve`."""
    given = {"surface": surface}
    return [
        (r"/objects/.+", ObjectHandler, given),
        (r"/objects/?", ObjectsHandler, given),
        (r"/buckets/[^/]+/objects/.+", ObjectHandler, given),
        (r"/buckets/[^/]+/objects/?", ObjectsHandler, given),
        (r"/buckets/[^/]+/versions(?:/.*)?", BucketVersionsHandler, given),
        (r"/buckets/?", BucketsHandler, given),
        (r"/buckets/[^/]+/?", BucketHandler, given),
        (r"/versions(?:/.*)?", VersionLinesHandler, given),
        (r"/locate/.+", LocateHandler, given),
        (r"/v1/cluster", ClusterHandler, given),
        (r"/v1/maintenance", MaintenanceHandler, given),
        (r"/v1/status", StatusHandler, given),
    ]
