"""Any history of commands keeps the catalog's facts in agreement, and with a plain model."""

import shutil
import tempfile
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from osscore.model import ObjectAttributes, ShardIdentity, StripeDraft
from raftmeta.catalog.catalog import Catalog
from raftmeta.commands import (
    AbortUpload,
    BeginUpload,
    Collected,
    ConfirmTime,
    CopyBody,
    DeleteObject,
    DeleteVersion,
    Done,
    HoldManifest,
    InlineBody,
    KeepChunk,
    LinkChunks,
    MarkBad,
    MarkGood,
    ObjectDeleted,
    ObjectPut,
    PutObject,
    Refused,
    SetDiskState,
    Stage,
    Staged,
    StripeQuestion,
    StripesBody,
    TrashDone,
    Undelete,
    UploadBody,
)
from raftmeta.credentials import (
    AuditNote,
)
from raftmeta.entries import AnyCommand, AnyResult, Entry
from raftmeta.queries import (
    ChunksListed,
    CountCatalog,
    FindObject,
    Found,
    ListChunks,
    ReadTrash,
    TrashRead,
)
from tests.raftmeta.catalog.harness import MINUTE_MS, TWO_ONE, Driver, refusal
from tests.raftmeta.catalog.history_credentials import CredentialRules
from tests.raftmeta.catalog.history_model import (
    HOLDS,
    KEYS,
    PARENT,
    UPLOADS,
    Body,
    Model,
    seen_body,
)
from tests.raftmeta.catalog.history_moves import MovingRules
from tests.raftmeta.catalog.history_pruning import PruningRules
from tests.raftmeta.catalog.history_reencode import ReencodingRules
from tests.raftmeta.catalog.history_travel import TravelRules

CONTENTS = st.integers(1, 4)
DISKS = st.permutations([1, 2, 3, 4]).map(lambda order: tuple(order[:3]))
STATES = st.sampled_from([(0, 0, 0), (0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 1, 0)])
NUMBERS = st.integers(0, 3)


class AnyHistory(PruningRules, CredentialRules, MovingRules, TravelRules, ReencodingRules):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.driver = Driver(self.directory / "catalog.sqlite")
        self.driver.form(nodes=4)
        self.model = Model()
        self.drafts: list[StripeDraft] = []
        self.answered: list[tuple[Entry, AnyResult]] = []
        self.chunk_count = 1 << 64

    def run_command(self, command: AnyCommand, audit: AuditNote | None = None) -> AnyResult:
        self.driver.now_ms += 10
        entry = self.driver.next(command)  # may open a session, which is counted
        entry = msgspec.structs.replace(entry, audit=audit)
        before = self.driver.ask(CountCatalog())
        result = self.driver.apply(entry)[0]
        if refusal(result) == "SessionExpired":
            self.driver.session = 0
            return self.run_command(command, audit)
        if isinstance(result, Refused):
            assert self.driver.ask(CountCatalog()) == before, "a refusal changed something"
        self.answered.append((entry, result))
        return result

    def new_draft(
        self, content: int, disks: tuple[int, ...], states: tuple[int, ...]
    ) -> StripeDraft:
        draft = self.driver.draft(content, disks=disks, states=states, copies=1 in states)
        self.drafts.append(draft)
        return draft

    def put_body(self, key: str, body: object, model_body: Body) -> None:
        if isinstance(model_body, bytes):
            size_bytes = len(model_body)
        else:
            size_bytes = 1000 * len(model_body or ())
        command = PutObject(
            bucket="bucket",
            key=key,
            attributes=ObjectAttributes(size_bytes=size_bytes),
            body=body,  # type: ignore[arg-type]
        )
        result = self.run_command(command)
        if isinstance(result, ObjectPut):
            assert result.number == self.model.put(key, model_body)
        else:
            allowed = (
                "StaleStripe",
                "Conflict",
                "UnderReplicated",
                "NoSuchUpload",
                "NoSuchVersion",
            )
            assert refusal(result) in allowed

    # --- objects ---------------------------------------------------------------------------

    @rule(key=st.sampled_from(KEYS), data=st.binary(max_size=3))
    def put_inline(self, key: str, data: bytes) -> None:
        self.put_body(key, InlineBody(data=data), data)

    @rule(
        key=st.sampled_from(KEYS),
        contents=st.lists(CONTENTS, min_size=1, max_size=2),
        disks=DISKS,
        states=STATES,
    )
    def put_stripes(
        self, key: str, contents: list[int], disks: tuple[int, ...], states: tuple[int, ...]
    ) -> None:
        drafts = tuple(self.new_draft(content, disks, states) for content in contents)
        self.put_body(key, StripesBody(stripes=drafts), tuple(contents))

    @rule(key=st.sampled_from(KEYS), pick=st.integers(0, 1000))
    def put_an_old_draft_again(self, key: str, pick: int) -> None:
        if self.drafts:
            draft = self.drafts[pick % len(self.drafts)]
            self.put_body(key, StripesBody(stripes=(draft,)), (draft.stored_crc,))

    @rule(key=st.sampled_from(KEYS), source=st.sampled_from(KEYS), pick=st.integers(0, 50))
    def copy(self, key: str, source: str, pick: int) -> None:
        numbers = sorted(self.model.versions[source])
        number = numbers[pick % len(numbers)] if numbers else 1
        body = self.model.versions[source].get(number)
        before = self.model.next_number[key]
        copy = CopyBody(bucket="bucket", key=source, number=number)
        self.put_body(key, copy, body if body is not None else b"")
        assert (self.model.next_number[key] == before) == (body is None)

    @rule(key=st.sampled_from(KEYS))
    def delete_object(self, key: str) -> None:
        result = self.run_command(DeleteObject(bucket="bucket", key=key))
        if isinstance(result, ObjectDeleted):
            assert result.number == self.model.put(key, None)
        else:
            assert refusal(result) == "NoSuchKey" and not self.model.versions[key]

    @rule(key=st.sampled_from(KEYS), pick=st.integers(0, 50))
    def delete_version(self, key: str, pick: int) -> None:
        numbers = sorted(self.model.versions[key])
        number = numbers[pick % len(numbers)] if numbers else 1
        result = self.run_command(DeleteVersion(bucket="bucket", key=key, number=number))
        assert isinstance(result, ObjectDeleted) == bool(numbers)
        self.model.versions[key].pop(number, None)

    @rule(key=st.sampled_from(KEYS))
    def undelete(self, key: str) -> None:
        versions = self.model.versions[key]
        revealed = max((n for n, body in versions.items() if body is not None), default=0)
        result = self.run_command(Undelete(bucket="bucket", key=key))
        if not revealed:
            assert refusal(result) == "NoSuchKey"
            return
        assert isinstance(result, ObjectDeleted) and result.number == revealed
        for number in [n for n in versions if n > revealed]:
            del versions[number]

    # --- uploads and holds --------------------------------------------------------------------

    @rule(upload=st.sampled_from(UPLOADS), key=st.sampled_from(KEYS))
    def begin(self, upload: bytes, key: str) -> None:
        self.begin_for(upload, key)

    def begin_for(self, upload: bytes, key: str) -> None:
        begin = BeginUpload(upload=upload, bucket="bucket", key=key, ttl_ms=90 * MINUTE_MS)
        if not refusal(self.run_command(begin)):
            self.model.staged.setdefault(upload, [])
            self.model.hits.setdefault(upload, [])

    @rule(
        upload=st.sampled_from(UPLOADS),
        contents=st.lists(CONTENTS, max_size=3),
        asked=st.lists(CONTENTS, max_size=2),
        disks=DISKS,
        use_hit=st.booleans(),
    )
    def stage(
        self,
        upload: bytes,
        contents: list[int],
        asked: list[int],
        disks: tuple[int, ...],
        use_hit: bool,
    ) -> None:
        if upload not in self.model.staged:
            self.begin_for(upload, KEYS[0])
        staged = self.model.staged.get(upload, [])
        hits = self.model.hits.get(upload, [])
        append: list[StripeDraft | int] = [self.new_draft(c, disks, (0, 0, 0)) for c in contents]
        used = hits[:1] if use_hit else []
        append += [row for row, _ in used]
        questions = tuple(
            StripeQuestion(
                profile=TWO_ONE, domain=b"", digest=c.to_bytes(32, "big"), plain_bytes=1000
            )
            for c in asked
        )
        command = Stage(upload=upload, position=len(staged), append=tuple(append), ask=questions)
        result = self.run_command(command)
        if isinstance(result, Staged):
            staged += contents + [content for _, content in used]
            assert result.staged_bytes == 1000 * len(staged)
            self.model.hits[upload] = hits[len(used) :] + [
                (row, content) for row, content in zip(result.hits, asked, strict=True) if row
            ]
        elif refusal(result) == "NoSuchUpload":
            self._forget(upload)
        else:
            assert refusal(result) == "UnderReplicated"

    @rule(upload=st.sampled_from(UPLOADS), key=st.sampled_from(KEYS))
    def commit(self, upload: bytes, key: str) -> None:
        staged = self.model.staged.get(upload, [])
        before = self.model.next_number[key]
        self.put_body(key, UploadBody(upload=upload), tuple(staged))
        if self.model.next_number[key] != before:
            self._forget(upload)

    @rule(upload=st.sampled_from(UPLOADS + HOLDS))
    def abort(self, upload: bytes) -> None:
        self.run_command(AbortUpload(upload=upload))
        self._forget(upload)

    @rule(hold=st.sampled_from(HOLDS), key=st.sampled_from(KEYS))
    def hold(self, hold: bytes, key: str) -> None:
        found = self.driver.ask(FindObject(bucket="bucket", key=key))
        if isinstance(found, Found) and found.version.manifest:
            manifest = found.version.manifest
            hold_it = HoldManifest(upload=hold, manifest=manifest, ttl_ms=20 * MINUTE_MS)
            assert refusal(self.run_command(hold_it)) in ("", "Conflict")

    def _forget(self, upload: bytes) -> None:
        self.model.staged.pop(upload, None)
        self.model.hits.pop(upload, None)

    # --- chunks, and finishing exactly once -----------------------------------------------------

    @rule(restarts=st.booleans())
    def begin_parent(self, restarts: bool) -> None:
        begin = BeginUpload(
            upload=PARENT, bucket="bucket", key=KEYS[0], ttl_ms=90 * MINUTE_MS, restarts=restarts
        )
        self._forget_finished_in_time()
        assert self.run_command(begin) == Done()
        if restarts:
            self.model.finished = None

    @rule(number=NUMBERS, contents=st.lists(CONTENTS, max_size=2), disks=DISKS, swap=st.booleans())
    def keep_chunk(
        self, number: int, contents: list[int], disks: tuple[int, ...], swap: bool
    ) -> None:
        self.chunk_count += 1
        chunk = self.chunk_count.to_bytes(16, "big")
        self.run_command(
            BeginUpload(upload=chunk, bucket="bucket", key=KEYS[0], ttl_ms=90 * MINUTE_MS)
        )
        drafts = tuple(self.new_draft(content, disks, (0, 0, 0)) for content in contents)
        if refusal(self.run_command(Stage(upload=chunk, position=0, append=drafts))):
            return
        kept = self.run_command(
            KeepChunk(
                upload=chunk,
                parent=PARENT,
                number=number,
                size_bytes=1000 * len(contents),
                sha256=bytes(32),
                replaces=swap,
            )
        )
        if kept == Done():
            assert swap or number not in self.model.chunks
            self.model.chunks[number] = (chunk, contents)
        else:
            assert refusal(kept) in ("ChunkAlreadyHeld", "NoSuchUpload", "Conflict")
            assert refusal(kept) != "ChunkAlreadyHeld" or number in self.model.chunks

    @rule(count=st.integers(1, 3))
    def link_chunks(self, count: int) -> None:
        numbers = sorted(self.model.chunks)[:count]
        linked = self.run_command(
            LinkChunks(
                upload=PARENT,
                position=len(self.model.linked),
                chunks=tuple(self.model.chunks[number][0] for number in numbers),
            )
        )
        if isinstance(linked, Staged):
            for number in numbers:
                self.model.linked += self.model.chunks.pop(number)[1]
            assert linked.staged_bytes == 1000 * len(self.model.linked)
        else:
            assert refusal(linked) == "NoSuchUpload"

    @rule(inline=st.booleans())
    def finish_parent(self, inline: bool) -> None:
        self._forget_finished_in_time()
        body = InlineBody(data=b"xyz") if inline else UploadBody(upload=PARENT)
        size_bytes = 3 if inline else 1000 * len(self.model.linked)
        result = self.run_command(
            PutObject(
                bucket="bucket",
                key=KEYS[0],
                attributes=ObjectAttributes(size_bytes=size_bytes),
                body=body,
                finishes=PARENT,
            )
        )
        if self.model.finished is not None:
            assert result == self.model.finished
        elif isinstance(result, ObjectPut):
            assert result.number == self.model.put(
                KEYS[0], b"xyz" if inline else tuple(self.model.linked)
            )
            self.model.finished = result
            self.model.finished_until_ms = self.driver.now_ms + 90 * MINUTE_MS
            self._forget_parent()
        else:
            assert refusal(result) == "NoSuchUpload"

    @rule()
    def abort_parent(self) -> None:
        self.run_command(AbortUpload(upload=PARENT))
        self._forget_parent()

    def _forget_finished_in_time(self) -> None:
        if self.driver.now_ms >= self.model.finished_until_ms:
            self.model.finished = None

    def _forget_parent(self) -> None:
        self.model.chunks.clear()
        self.model.linked.clear()

    @rule()
    def look_at_the_chunks(self) -> None:
        listed = self.driver.ask(ListChunks(upload=PARENT))
        if isinstance(listed, ChunksListed):
            found = {chunk.number: chunk.upload for chunk in listed.chunks}
            assert found == {number: held[0] for number, held in self.model.chunks.items()}
        else:
            assert refusal(listed) == "NoSuchUpload"

    # --- damage, disks, time ------------------------------------------------------------------

    @rule(pick=st.integers(0, 1000), index=st.integers(0, 2), good=st.booleans())
    def mark(self, pick: int, index: int, good: bool) -> None:
        if self.drafts:
            draft = self.drafts[pick % len(self.drafts)]
            identity = ShardIdentity(draft.stripe, index, 0)
            disk = draft.slots[index].disk
            self.run_command(
                MarkGood(identity=identity, disk=disk)
                if good
                else MarkBad(identity=identity, disk=disk)
            )

    @rule(disk=st.sampled_from([3, 4]), state=st.sampled_from(["in", "in", "draining", "lost"]))
    def set_disk_state(self, disk: int, state: str) -> None:
        self.run_command(SetDiskState(disk=disk, state=state))

    @rule(minutes=st.sampled_from([1, 11, 30, 59]))
    def wait(self, minutes: int) -> None:
        self.driver.pass_time(minutes * MINUTE_MS, idle=True)

    @rule()
    def jump_and_confirm(self) -> None:
        self.driver.now_ms += 120 * MINUTE_MS
        self.driver.apply()
        before = self.driver.ask(CountCatalog())
        self.driver.collect()
        after = self.driver.ask(CountCatalog())
        assert (after.uploads, after.dead_stripes) == (before.uploads, before.dead_stripes)  # type: ignore[union-attr]
        self.run_command(ConfirmTime())

    @rule()
    def wait_past_the_grace_and_collect(self) -> None:
        self.driver.pass_time(62 * MINUTE_MS, idle=True)
        self.collect_all()

    @rule()
    def collect_all(self) -> None:
        while self.driver.collect() != Collected():
            pass
        for upload in UPLOADS:
            asked = self.driver.catalog._writer.execute(
                "SELECT 1 FROM uploads WHERE upload = ?", (upload,)
            )
            if asked.fetchone() is None:
                self._forget(upload)
        asked = self.driver.catalog._writer.execute(
            "SELECT (SELECT COUNT(*) FROM uploads WHERE upload = ?1),"
            " (SELECT COUNT(*) FROM finished_uploads WHERE upload = ?1)",
            (PARENT,),
        )
        is_open, is_finished = asked.fetchone()
        if not is_open:
            self._forget_parent()
        if not is_finished:
            self.model.finished = None

    @rule(disk=st.integers(1, 4))
    def empty_trash(self, disk: int) -> None:
        answer = self.driver.ask(ReadTrash(disk=disk))
        assert isinstance(answer, TrashRead)
        self.run_command(TrashDone(disk=disk, rows=tuple(row.row for row in answer.rows)))

    # --- retries and crashes --------------------------------------------------------------------

    @rule(pick=st.integers(0, 10_000))
    def retry(self, pick: int) -> None:
        if self.answered:
            entry, first = self.answered[pick % len(self.answered)]
            before = self.driver.ask(CountCatalog())
            again = self.driver.apply(entry)[0]
            assert again == first or refusal(again) == "SessionExpired"
            assert self.driver.ask(CountCatalog()) == before, "a retry changed something"

    @rule()
    def crash(self) -> None:
        """The process dies between two batches: only what is in the files counts."""
        before = self.driver.catalog.fingerprint()
        crashed = Path(tempfile.mkdtemp(dir=self.directory))
        for file in self.driver.path.parent.glob("catalog.sqlite*"):
            shutil.copy(file, crashed / file.name)
        self.driver.catalog.close()
        self.driver.path = crashed / "catalog.sqlite"
        self.driver.catalog = Catalog(self.driver.path)
        assert self.driver.catalog.fingerprint() == before

    # --- what always holds ------------------------------------------------------------------------

    @invariant()
    def facts_agree(self) -> None:
        assert self.driver.catalog.contradictions() == []

    @invariant()
    def users_see_the_model(self) -> None:
        for key, versions in self.model.versions.items():
            for number, body in versions.items():
                found = self.driver.ask(FindObject(bucket="bucket", key=key, number=number))
                assert isinstance(found, Found), (key, number, found)
                assert found.version.is_latest == (number == max(versions))
                assert seen_body(found) == body
            latest = versions[max(versions)] if versions else None
            current = self.driver.ask(FindObject(bucket="bucket", key=key))
            assert isinstance(current, Found) == (latest is not None)

    def teardown(self) -> None:
        replayed = Catalog(self.directory / "replayed.sqlite")
        for index, blob in enumerate(self.driver.log, start=1):
            replayed.apply(index, blob)
        assert replayed.fingerprint() == self.driver.catalog.fingerprint()
        replayed.close()
        self.driver.catalog.close()
        shutil.rmtree(self.directory)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
