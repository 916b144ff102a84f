"""Which path leads to which handler."""

from typing import Any

from frontend.serving.surface import Surface
from frontend.tokens.files import DownloadHandler, FileHandler, InfoHandler
from frontend.tokens.handler import UnknownTokenPath
from frontend.tokens.minting import DownloadTokenHandler, UploadTokenHandler
from frontend.tokens.server import ActiveHandler, SystemTokenHandler
from frontend.tokens.uploads import ChunkHandler, FinishHandler, SingleHandler


def token_routes(surface: Surface) -> list[Any]:
    """Routes for `serve`."""
    given = {"surface": surface}
    return [
        (r"/server/token", SystemTokenHandler, given),
        (r"/server/active", ActiveHandler, given),
        (r"/upload/token", UploadTokenHandler, given),
        (r"/download/token", DownloadTokenHandler, given),
        (r"/upload/single", SingleHandler, given),
        (r"/upload/chuck", ChunkHandler, given),
        (r"/upload/chunk", ChunkHandler, given),
        (r"/upload/finish", FinishHandler, given),
        (r"/download", DownloadHandler, given),
        (r"/file/info", InfoHandler, given),
        (r"/file", FileHandler, given),
        (r"/(?:server|upload|download|file)(?:/.*)?", UnknownTokenPath, given),
    ]
