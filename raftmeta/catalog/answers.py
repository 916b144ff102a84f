"""From a query to its handler; a refusal is an answer."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from osscore.errors import InvalidArgument, RequestError, Unavailable
from raftmeta.catalog import (
    query_cluster,
    query_credentials,
    query_damage,
    query_disks,
    query_inline,
    query_lifecycle,
    query_listing,
    query_moves,
    query_objects,
    query_past,
    query_prune,
    query_reencode,
    query_stripes,
    query_uploads,
)
from raftmeta.catalog.apply_sessions import refused
from raftmeta.catalog.reading import Reading
from raftmeta.credentials import (
    CheckToken,
    FindAccessKey,
    FindSigningKeys,
    FindSystemToken,
    ListAccessKeys,
    ListAudit,
)
from raftmeta.expiring import FindExpiring
from raftmeta.moving import (
    CodingsOn,
    CountDamagedObjects,
    CountUnderSpread,
    DamagedStripes,
    ListTasks,
    ReadTasks,
    StripesAt,
    StripesOfDisk,
)
from raftmeta.queries import (
    CountCatalog,
    CountDisk,
    CountReferences,
    ExpectedSlots,
    FindDigest,
    FindObject,
    FindOwners,
    FindPrunable,
    FindStrays,
    FindUnwanted,
    FindUpload,
    GetBucket,
    GetCluster,
    ListBuckets,
    ListChunks,
    ListObjects,
    ListStripes,
    ListVersions,
    ReadSegments,
    ReadTrash,
)
from raftmeta.questions import AnyAnswer, AnyQuery
from raftmeta.reencoding import FindReencodable, ListReencodes, ReadReencodes
from raftmeta.scanning import ListInline
from raftmeta.timetravel import (
    FindChanges,
    FindDeleted,
    ListObjectsAt,
)

HANDLERS: Mapping[type, Callable[[Reading, Any], AnyAnswer]] = MappingProxyType(
    {
        FindObject: query_objects.find_object,
        ReadSegments: query_objects.read_segments,
        FindUpload: query_uploads.find_upload,
        ListChunks: query_uploads.list_chunks,
        FindPrunable: query_prune.find_prunable,
        FindExpiring: query_lifecycle.find_expiring,
        ListStripes: query_stripes.list_stripes,
        ListInline: query_inline.list_inline,
        FindOwners: query_stripes.find_owners,
        CountReferences: query_stripes.count_references,
        FindDigest: query_objects.find_digest,
        ListObjects: query_listing.list_objects,
        ListObjectsAt: query_past.list_objects_at,
        FindChanges: query_past.find_changes,
        FindDeleted: query_past.find_deleted,
        ListVersions: query_listing.list_versions,
        GetBucket: query_listing.get_bucket,
        ListBuckets: query_listing.list_buckets,
        FindAccessKey: query_credentials.find_access_key,
        ListAccessKeys: query_credentials.list_access_keys,
        FindSystemToken: query_credentials.find_system_token,
        FindSigningKeys: query_credentials.find_signing_keys,
        CheckToken: query_credentials.check_token,
        ListAudit: query_credentials.list_audit,
        GetCluster: query_cluster.get_cluster,
        CountCatalog: query_cluster.count_catalog,
        CountDisk: query_disks.count_disk,
        ReadTrash: query_disks.read_trash,
        FindUnwanted: query_disks.find_unwanted,
        FindStrays: query_disks.find_strays,
        ExpectedSlots: query_disks.expected_slots,
        ReadTasks: query_moves.read_tasks,
        ListTasks: query_moves.list_tasks,
        StripesOfDisk: query_moves.stripes_of_disk,
        StripesAt: query_moves.stripes_at,
        CodingsOn: query_moves.codings_on,
        CountUnderSpread: query_moves.count_under_spread,
        CountDamagedObjects: query_damage.count_damaged_objects,
        DamagedStripes: query_moves.damaged_stripes,
        ReadReencodes: query_reencode.read_reencodes,
        ListReencodes: query_reencode.list_reencodes,
        FindReencodable: query_reencode.find_reencodable,
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
