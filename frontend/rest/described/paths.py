"""All paths of the native dialect."""

from frontend.openapi.words import Node
from frontend.rest.described.buckets import bucket_paths
from frontend.rest.described.censuses import census_paths
from frontend.rest.described.cluster import cluster_paths
from frontend.rest.described.credentials import credential_paths
from frontend.rest.described.explain import explain_paths
from frontend.rest.described.generation import generation_paths
from frontend.rest.described.healing import healing_paths
from frontend.rest.described.listings import listing_paths
from frontend.rest.described.members import member_paths
from frontend.rest.described.objects import object_paths
from frontend.rest.described.reencode import reencode_paths
from frontend.rest.described.scrubs import scrub_paths
from frontend.rest.described.shares import share_paths
from frontend.rest.described.timetravel import timetravel_paths
from frontend.rest.described.upkeep import upkeep_paths
from frontend.rest.described.uploads import upload_paths


def native_paths() -> dict[str, Node]:
    """In the order in which a reader wants them."""
    return {
        **object_paths(),
        **upload_paths(),
        **listing_paths(),
        **explain_paths(),
        **bucket_paths(),
        **credential_paths(),
        **share_paths(),
        **cluster_paths(),
        **upkeep_paths(),
        **census_paths(),
        **timetravel_paths(),
        **generation_paths(),
        **member_paths(),
        **scrub_paths(),
        **healing_paths(),
        **reencode_paths(),
    }
