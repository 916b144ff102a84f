"""From a query to its handler; a refusal is an answer."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from osscore.errors import InvalidArgument, RequestError, Unavailable
from raftmeta.catalog import query_cluster, query_disks, query_listing, query_objects
from raftmeta.catalog.apply_sessions import refused
from raftmeta.catalog.reading import Reading
from raftmeta.queries import (
    AnyAnswer,
    AnyQuery,
    CountCatalog,
    ExpectedSlots,
    FindAccessKey,
    FindDigest,
    FindObject,
    FindUnwanted,
    GetBucket,
    GetCluster,
    ListBuckets,
    ListObjects,
    ListVersions,
    ReadSegments,
    ReadTrash,
)

HANDLERS: Mapping[type, Callable[[Reading, Any], AnyAnswer]] = MappingProxyType(
    {
        FindObject: query_objects.find_object,
        ReadSegments: query_objects.read_segments,
        FindDigest: query_objects.find_digest,
        ListObjects: query_listing.list_objects,
        ListVersions: query_listing.list_versions,
        GetBucket: query_listing.get_bucket,
        ListBuckets: query_listing.list_buckets,
        FindAccessKey: query_cluster.find_access_key,
        GetCluster: query_cluster.get_cluster,
        CountCatalog: query_cluster.count_catalog,
        ReadTrash: query_disks.read_trash,
        FindUnwanted: query_disks.find_unwanted,
        ExpectedSlots: query_disks.expected_slots,
    }
)


def answer_query(reading: Reading, query: AnyQuery) -> AnyAnswer:
    """Answer one query; what the caller must change comes back as Refused."""
    try:
        return HANDLERS[type(query)](reading, query)
    except (RequestError, Unavailable) as error:
        return refused(error)
    except OverflowError:
        return refused(InvalidArgument("A number is out of range."))
