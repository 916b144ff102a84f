"""Which path leads to which handler. Names are parsed from the raw path, so that no slash or
escape in them is lost."""

from typing import Any

from frontend.rest.audit import AuditHandler
from frontend.rest.buckets import BucketHandler, BucketsHandler
from frontend.rest.cluster import ClusterHandler, MaintenanceHandler, StatusHandler
from frontend.rest.explain import ExplainHandler
from frontend.rest.generation import AdoptHandler, BackupHandler
from frontend.rest.healing import (
    DrainHandler,
    ForceHandler,
    PauseHandler,
    RebalanceHandler,
    RemoveHandler,
    RepairHandler,
)
from frontend.rest.keys import KeyHandler, KeyRotationHandler, KeysHandler
from frontend.rest.listings import ObjectsHandler
from frontend.rest.locate import LocateHandler
from frontend.rest.maintenance import OrphansHandler, PruneHandler, ScanHandler
from frontend.rest.members import LeadHandler, MemberHandler, MembersHandler
from frontend.rest.objects import ObjectHandler
from frontend.rest.reencode import ReencodeCancelHandler, ReencodeHandler
from frontend.rest.share import ShareHandler, SharesHandler
from frontend.rest.temp import TempHandler
from frontend.rest.timetravel import RestoreHandler, UndeleteHandler
from frontend.rest.tokens_admin import (
    SigningKeyRotationHandler,
    SigningKeysHandler,
    SystemTokenHandler,
    TokenHandler,
    TokensHandler,
)
from frontend.rest.upkeep import CensusHandler, ScrubHandler
from frontend.rest.versions import BucketVersionsHandler, VersionLinesHandler
from frontend.serving.surface import Surface


def native_routes(surface: Surface) -> list[Any]:
    """Routes for `serve`."""
    given = {"surface": surface}
    return [
        (r"/objects/.+", ObjectHandler, given),
        (r"/objects/?", ObjectsHandler, given),
        (r"/temp/.+", TempHandler, given),
        (r"/buckets/[^/]+/objects/.+", ObjectHandler, given),
        (r"/buckets/[^/]+/objects/?", ObjectsHandler, given),
        (r"/buckets/[^/]+/versions(?:/.*)?", BucketVersionsHandler, given),
        (r"/buckets/?", BucketsHandler, given),
        (r"/buckets/[^/]+/?", BucketHandler, given),
        (r"/versions(?:/.*)?", VersionLinesHandler, given),
        (r"/locate/.+", LocateHandler, given),
        (r"/explain/.+", ExplainHandler, given),
        (r"/v1/cluster", ClusterHandler, given),
        (r"/v1/maintenance", MaintenanceHandler, given),
        (r"/v1/maintenance/prune", PruneHandler, given),
        (r"/v1/maintenance/restore", RestoreHandler, given),
        (r"/v1/maintenance/undelete", UndeleteHandler, given),
        (r"/v1/maintenance/scan", ScanHandler, given),
        (r"/v1/maintenance/orphans", OrphansHandler, given),
        (r"/v1/maintenance/census", CensusHandler, given),
        (r"/v1/meta/backup", BackupHandler, given),
        (r"/v1/meta/adopt", AdoptHandler, given),
        (r"/v1/meta/members", MembersHandler, given),
        (r"/v1/meta/members/([^/]+)", MemberHandler, given),
        (r"/v1/meta/lead", LeadHandler, given),
        (r"/v1/maintenance/scrub", ScrubHandler, given),
        (r"/v1/maintenance/drain", DrainHandler, given),
        (r"/v1/maintenance/remove", RemoveHandler, given),
        (r"/v1/maintenance/repair", RepairHandler, given),
        (r"/v1/maintenance/repair/force", ForceHandler, given),
        (r"/v1/maintenance/rebalance", RebalanceHandler, given),
        (r"/v1/maintenance/(repair)/(pause)", PauseHandler, given),
        (r"/v1/maintenance/(repair)/(resume)", PauseHandler, given),
        (r"/v1/maintenance/(rebalance)/(pause)", PauseHandler, given),
        (r"/v1/maintenance/(rebalance)/(resume)", PauseHandler, given),
        (r"/v1/maintenance/reencode", ReencodeHandler, given),
        (r"/v1/maintenance/reencode/cancel", ReencodeCancelHandler, given),
        (r"/v1/maintenance/(reencode)/(pause)", PauseHandler, given),
        (r"/v1/maintenance/(reencode)/(resume)", PauseHandler, given),
        (r"/v1/status", StatusHandler, given),
        (r"/v1/keys", KeysHandler, given),
        (r"/v1/keys/([^/]+)", KeyHandler, given),
        (r"/v1/keys/([^/]+)/rotate", KeyRotationHandler, given),
        (r"/v1/tokens", TokensHandler, given),
        (r"/v1/tokens/([^/]+)", TokenHandler, given),
        (r"/v1/signing-keys", SigningKeysHandler, given),
        (r"/v1/signing-keys/rotate", SigningKeyRotationHandler, given),
        (r"/v1/system-token", SystemTokenHandler, given),
        (r"/v1/audit", AuditHandler, given),
        (r"/v1/shares", SharesHandler, given),
        (r"/share/([^/]+)(?:/.*)?", ShareHandler, given),
    ]
