"""Any history of commands keeps the catalog's facts in agreement, and with a plain model."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from osscore.model import ObjectAttributes, ShardIdentity, StripeDraft
from raftmeta.catalog.catalog import Catalog
from raftmeta.commands import (
    AbortUpload,
    AnyCommand,
    AnyResult,
    BeginUpload,
    Collected,
    ConfirmTime,
    CopyBody,
    DeleteObject,
    DeleteVersion,
    Entry,
    HoldManifest,
    InlineBody,
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
from raftmeta.queries import CountCatalog, FindObject, Found, ReadTrash, TrashRead
from tests.raftmeta.catalog.harness import MINUTE_MS, TWO_ONE, Driver, refusal

KEYS = ("a", "b", "c")
CONTENTS = st.integers(1, 4)
DISKS = st.permutations([1, 2, 3, 4]).map(lambda order: tuple(order[:3]))
STATES = st.sampled_from([(0, 0, 0), (0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 1, 0)])
UPLOADS = (b"1" * 16, b"2" * 16)
HOLDS = (b"8" * 16, b"9" * 16)

Body = bytes | tuple[int, ...] | None  # inline, contents of the stripes, a marker


@dataclass
class Model:
    """What users should see: per key its versions by number, and what uploads have staged."""

    versions: dict[str, dict[int, Body]] = field(default_factory=lambda: {k: {} for k in KEYS})
    next_number: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KEYS, 1))
    staged: dict[bytes, list[int]] = field(default_factory=dict)
    hits: dict[bytes, list[tuple[int, int]]] = field(default_factory=dict)

    def put(self, key: str, body: Body) -> int:
        number = self.next_number[key]
        self.next_number[key] += 1
        self.versions[key][number] = body
        return number


class AnyHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.driver = Driver(self.directory / "catalog.sqlite")
        self.driver.form(nodes=4)
        self.model = Model()
        self.drafts: list[StripeDraft] = []
        self.answered: list[tuple[Entry, AnyResult]] = []

    def run_command(self, command: AnyCommand) -> AnyResult:
        self.driver.now_ms += 10
        entry = self.driver.next(command)  # may open a session, which is counted
        before = self.driver.ask(CountCatalog())
        result = self.driver.apply(entry)[0]
        if refusal(result) == "SessionExpired":
            self.driver.session = 0
            return self.run_command(command)
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


def seen_body(found: Found) -> Body:
    if found.version.is_marker:
        return None
    if found.inline is not None:
        return found.inline
    return tuple(segment.stripe.stored_crc for segment in found.segments)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
