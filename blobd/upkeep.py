"""What looks after a daemon's disks in the background, found by disk."""

from collections.abc import Iterator, Sequence

from blobd.census import Census
from blobd.disks import DataDisk, Disks
from blobd.scrub import Scrubber
from blobd.wire import SCRUB_ACTIONS, SCRUB_NOW, SCRUB_PAUSE, SCRUB_RESUME, VolumeVerified
from osscore.errors import InvalidArgument, NotReady, StoreError
from osscore.model import ShardIdentity
from raftmeta.queries import ClusterDescribed
from raftmeta.upkeep import DiskCensus, DiskScrub


class Upkeep:
    """Fills while the daemon starts."""

    def __init__(self, disks: Disks) -> None:
        self._disks = disks
        self._censuses: dict[DataDisk, Census] = {}
        self._scrubbers: dict[DataDisk, Scrubber] = {}

    def add_census(self, disk: DataDisk, census: Census) -> None:
        """That of one disk."""
        self._censuses[disk] = census

    def add_scrubber(self, disk: DataDisk, scrubber: Scrubber) -> None:
        """That of one disk."""
        self._scrubbers[disk] = scrubber

    @property
    def scrubbers(self) -> Iterator[tuple[DataDisk, Scrubber]]:
        """Of every disk."""
        return iter(self._scrubbers.items())

    @property
    def censuses(self) -> Iterator[tuple[DataDisk, Census]]:
        """Of every disk."""
        return iter(self._censuses.items())

    def census_of(self, disk: DataDisk) -> DiskCensus | None:
        """The last whole one, if there is one that counts."""
        census = self._censuses.get(disk)
        return census.last if census is not None else None

    def is_counting(self, disk: DataDisk) -> bool:
        """Whether a census is under way."""
        census = self._censuses.get(disk)
        return census is not None and census.is_running

    def scrub_of(self, disk: DataDisk) -> DiskScrub | None:
        """Where its rereading stands; None before it can be told."""
        scrubber = self._scrubbers.get(disk)
        try:
            return scrubber.told() if scrubber is not None and disk.number else None
        except StoreError:
            return None  # not open: its heartbeat says why

    def verified_of(self, disk: DataDisk) -> tuple[VolumeVerified, ...]:
        """Every volume, and since when all of it was reread."""
        scrubber = self._scrubbers.get(disk)
        if scrubber is None:
            return ()
        try:
            volumes = disk.store.records.volumes()
        except StoreError:
            return ()
        times = scrubber.state.verified_at_ms
        return tuple(
            VolumeVerified(
                name=volume.name,
                size_bytes=volume.size_bytes,
                verified_at_ms=times.get(volume.name, 0),
            )
            for volume in volumes
        )

    def last_verified(
        self, disk_uuid: bytes, identities: Sequence[ShardIdentity]
    ) -> tuple[int, ...]:
        """See Scrubber.verified_ms_ago. Raises NoSuchNode, NotReady, DiskFailing."""
        scrubber = self._scrubbers.get(self._disks.by_uuid(disk_uuid))
        if scrubber is None:
            raise NotReady("The daemon is starting.")
        return tuple(scrubber.verified_ms_ago(identities))

    def heed(self, described: ClusterDescribed) -> None:
        """Tell everybody what the catalog says of the cluster."""
        for census in self._censuses.values():
            census.heed(described)

    def ask_census(self, disk_uuid: bytes) -> int:
        """Have a census begin; see Census.ask. Raises NoSuchNode, NotReady, DiskRefused,
        DiskFailing."""
        disk = self._disks.by_uuid(disk_uuid)
        _ = disk.writable_store  # whose disk it is must be known
        census = self._censuses.get(disk)
        if census is None:
            raise NotReady("The daemon is starting.")
        return census.ask()

    async def order_scrub(self, disk_uuid: bytes, action: str) -> int:
        """Obey one of SCRUB_ACTIONS; answers the ms it counts from (Scrubber.begin_now).
        Repeating it is harmless. Raises InvalidArgument, NoSuchNode, NotReady, DiskRefused,
        DiskFailing."""
        disk = self._disks.by_uuid(disk_uuid)
        _ = disk.writable_store
        scrubber = self._scrubbers.get(disk)
        if scrubber is None:
            raise NotReady("The daemon is starting.")
        if action == SCRUB_NOW:
            return await scrubber.begin_now()
        if action == SCRUB_PAUSE:
            await scrubber.pause()
        elif action == SCRUB_RESUME:
            await scrubber.resume()
        else:
            raise InvalidArgument(f"A scrub is told {', '.join(SCRUB_ACTIONS)}.")
        return 0
