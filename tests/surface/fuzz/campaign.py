"""Shots from many threads at every door of a running store."""

import threading
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Any

from tests.surface import tokens
from tests.surface.cluster import SurfaceStore
from tests.surface.fuzz.judge import Judge, check_after, look
from tests.surface.fuzz.shots import BLOB_DAEMON, FRONTEND, Material, Shooter
from tests.surface.raw import RawAnswer, exchange
from tests.surface.ways import begin, fresh, object_at, post_temp

THREADS = 8
RENEWED_EVERY = 250
WAIT_S = 20.0
PATIENCE_S = 0.15
"""With what a server may rightly wait for more of."""
SENTINEL = Random("sentinel").randbytes(3_000_000)


@dataclass
class Campaign:
    """`requests` shots at a store; the same seed sends the same, if in another order."""

    store: SurfaceStore
    requests: int
    seed: int
    peak_mib_max: float = 300

    def run(self) -> dict[str, Any]:
        """The report; its "violations" are empty when all is well."""
        store, judge = self.store, Judge()
        # In a bucket that no shot can name: a spoiled restore may rightly empty the default one.
        sentinel = f"/buckets/{fresh('kept')}"
        store.ask("PUT", sentinel).expect(201)
        store.ask("PUT", f"{sentinel}/objects/sentinel", body=SENTINEL).expect(200)
        before = look(store)
        share = -(-self.requests // THREADS)
        errors: list[BaseException] = []

        def shoot(number: int) -> None:
            try:
                self._thread(number, share, judge)
            except BaseException as error:
                errors.append(error)
                raise

        threads = [threading.Thread(target=shoot, args=(n,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            judge.complain(f"the campaign itself failed: {errors[0]!r}")
        judge.check_busy()
        peaks = check_after(store, before, judge, peak_mib_max=self.peak_mib_max)
        self._check_works(sentinel, judge)
        return {
            "requests": judge.statuses.total(),
            "seed": self.seed,
            "statuses": {str(code): judge.statuses[code] for code in sorted(judge.statuses)},
            "doors": dict(sorted(judge.doors.items())),
            "peak_mib": peaks,
            "violations_count": judge.violations_count,
            "violations": judge.violations,
        }

    def _thread(self, number: int, count: int, judge: Judge) -> None:
        doors = [(door, FRONTEND) for door in self.store.frontends]
        blob = self.store.blobs[0]
        doors.append((blob, BLOB_DAEMON))
        shooter = Shooter(f"{self.seed} {number}", material(self.store, number))
        for shot_number in range(count):
            if shot_number % RENEWED_EVERY == RENEWED_EVERY - 1:
                shooter.material = material(self.store, number)
            # Frontends have more to shoot at.
            door, endpoints = doors[(shot_number * 7 + number) % 5 % 3]
            shot = shooter.shot(endpoints)
            wait_s = WAIT_S if shot.must_answer else PATIENCE_S
            answer: RawAnswer | None
            try:
                answer = exchange(door, shot.sent, method=shot.method, answer_s=wait_s)
            except TimeoutError:
                answer = None
            except OSError as error:
                judge.complain(f"{door} takes no connection: {error}")
                return
            judge.note(door, shot, answer)

    def _check_works(self, sentinel: str, judge: Judge) -> None:
        name, body = fresh("kept/after"), Random(self.seed).randbytes(200_000)
        try:
            kept = self.store.ask("GET", f"{sentinel}/objects/sentinel").expect(200)
            assert kept.body == SENTINEL
            self.store.put(name, body)
            object_at(self.store, name).check(body)
            digest = sha256(body).hexdigest()
            upload = tokens.mint(self.store, "upload", digest)
            tokens.data(tokens.send_file(self.store, "/upload/single", upload, body))
            download = tokens.mint(self.store, "download", digest)
            answer = tokens.ask(self.store, "GET", "/download", headers=download)
            assert answer.expect(200).body == body
        except (AssertionError, OSError, ValueError) as error:
            judge.complain(f"afterwards the store does not work: {error!r}")


def material(store: SurfaceStore, number: int) -> Material:
    """Fresh handles and tokens, so that shots get past the first check."""
    bodies = [b"fuzz %d %d" % (number, each) for each in range(3)]
    found = Material(
        authorization=store.authorization()["Authorization"],
        system_token=store.facts()["system_token"],
        hashes=[sha256(body).hexdigest() for body in bodies],
    )
    store.put(found.names[0], bodies[0])
    unknown = Random(fresh("x")).randbytes(100_000)
    found.uploads = [
        begin(store, "fuzz/upload", unknown, at=at).expect(201).headers["Location"] for at in (0, 1)
    ]
    found.temps = [
        post_temp(store, door, "fuzz/temp", bodies[1]).expect(201).json()["id"]
        for door in (store.frontends[0], store.blobs[0])
    ]
    for kind in ("upload", "download"):
        for each in found.hashes[:2]:
            found.tokens.append(tokens.mint(store, kind, each)["token"])
    return found
