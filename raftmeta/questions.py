"""Every question that can be asked of the catalog, and every answer."""

from raftmeta.commands import Refused
from raftmeta.credentials import (
    AccessKeyFound,
    AccessKeysListed,
    AuditListed,
    CheckToken,
    FindAccessKey,
    FindSigningKeys,
    FindSystemToken,
    KeysUnchanged,
    ListAccessKeys,
    ListAudit,
    SigningKeysFound,
    SystemTokenFound,
    TokenChecked,
)
from raftmeta.expiring import ExpiringFound, FindExpiring
from raftmeta.moving import (
    CodingsFound,
    CodingsOn,
    CountDamagedObjects,
    CountUnderSpread,
    DamagedObjectsCounted,
    DamagedStripes,
    ListTasks,
    ReadTasks,
    StripesAt,
    StripesOfDisk,
    StripesPlanned,
    TasksListed,
    TasksRead,
    UnderSpreadCounted,
)
from raftmeta.queries import (
    BucketsListed,
    CatalogCounted,
    ChunksListed,
    ClusterDescribed,
    CountCatalog,
    CountDisk,
    CountReferences,
    DiskCounted,
    ExpectedSlots,
    FindDigest,
    FindObject,
    FindOwners,
    FindPrunable,
    FindStrays,
    FindUnwanted,
    FindUpload,
    Found,
    GetBucket,
    GetCluster,
    ListBuckets,
    ListChunks,
    ListObjects,
    ListStripes,
    ListVersions,
    ObjectsFound,
    ObjectsListed,
    PrunableFound,
    ReadSegments,
    ReadTrash,
    ReferencesCounted,
    SegmentsRead,
    SlotsExpected,
    StraysFound,
    StripesListed,
    TrashRead,
    Unwanted,
    UploadFound,
    VersionsListed,
)
from raftmeta.reencoding import (
    FindReencodable,
    ListReencodes,
    ReadReencodes,
    ReencodableFound,
    ReencodesListed,
    ReencodesRead,
)
from raftmeta.scanning import InlineListed, ListInline
from raftmeta.timetravel import (
    ChangesFound,
    FindChanges,
    FindDeleted,
    ListObjectsAt,
    ObjectsListedAt,
)

AnyQuery = (
    FindObject
    | ReadSegments
    | FindUpload
    | ListChunks
    | ListObjects
    | ListObjectsAt
    | FindChanges
    | FindDeleted
    | ListVersions
    | GetBucket
    | ListBuckets
    | FindPrunable
    | FindExpiring
    | ListStripes
    | ListInline
    | FindOwners
    | CountReferences
    | FindDigest
    | FindAccessKey
    | ListAccessKeys
    | FindSystemToken
    | FindSigningKeys
    | CheckToken
    | ListAudit
    | GetCluster
    | ReadTrash
    | FindUnwanted
    | FindStrays
    | ExpectedSlots
    | ReadTasks
    | ListTasks
    | StripesOfDisk
    | StripesAt
    | CodingsOn
    | CountUnderSpread
    | CountDamagedObjects
    | DamagedStripes
    | CountCatalog
    | CountDisk
    | ReadReencodes
    | ListReencodes
    | FindReencodable
)

AnyAnswer = (
    Refused
    | Found
    | SegmentsRead
    | UploadFound
    | ChunksListed
    | ObjectsListed
    | ObjectsListedAt
    | ChangesFound
    | VersionsListed
    | BucketsListed
    | PrunableFound
    | ExpiringFound
    | StripesListed
    | ReferencesCounted
    | InlineListed
    | ObjectsFound
    | AccessKeyFound
    | KeysUnchanged
    | AccessKeysListed
    | SystemTokenFound
    | SigningKeysFound
    | TokenChecked
    | AuditListed
    | ClusterDescribed
    | TrashRead
    | Unwanted
    | SlotsExpected
    | StraysFound
    | TasksRead
    | TasksListed
    | StripesPlanned
    | CodingsFound
    | UnderSpreadCounted
    | DamagedObjectsCounted
    | CatalogCounted
    | DiskCounted
    | ReencodesRead
    | ReencodesListed
    | ReencodableFound
)
