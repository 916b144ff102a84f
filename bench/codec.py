"""Speed of the erasure code: MB of stored bytes a second, per engine and profile, one thread.

    python -m bench.codec [--seconds 0.3] [--stripe-bytes 4194304]

`encode` makes all parity, `decode` starts from the k last shards (as many data shards lost as
the profile bears). Half of the time budget goes to a worker thread, as the daemons work:
`encode_in_thread`. MB are 10^6 bytes. Prints one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from osscore.engine_isal import load_isal
from osscore.engine_reference import ReferenceEngine
from osscore.erasure import Codec, answers_agree, table_codec
from osscore.gf256 import Gf256
from osscore.model import Profile, reed_solomon

PROFILES = ("1+1", "2+1", "3+2", "4+2", "6+3", "8+4", "16+8")
REFERENCE_BYTES = 20_000
"""Stripe size for pyfinite's own loops; the speed does not depend on it."""


def codecs() -> list[Codec]:
    """Every engine this machine has."""
    field = Gf256.from_pyfinite()
    found = [table_codec(field), Codec(ReferenceEngine(), field)]
    isal = load_isal()
    return found if isal is None else [Codec(isal, field), *found]


def megabytes_per_s(act: Callable[[], object], size_bytes: int, seconds: float) -> float:
    """How fast `act` handles `size_bytes`, averaged over about that many seconds."""
    act()
    rounds = 0
    started_s = time.perf_counter()
    while (passed_s := time.perf_counter() - started_s) < seconds or rounds == 0:
        act()
        rounds += 1
    return round(rounds * size_bytes / passed_s / 1e6, 2)


def measure(codec: Codec, profile: str, size_bytes: int, seconds: float) -> dict[str, float]:
    """Encode and decode speed of one codec under one profile."""
    coding = reed_solomon(Profile.parse(profile))
    stored = bytes(index * 7 % 251 for index in range(size_bytes))
    shards = codec.encode(coding, stored)
    kept = dict(list(enumerate(shards))[coding.parity_count :])

    def encode() -> object:
        return codec.encode(coding, stored)

    def decode() -> object:
        return codec.decode(coding, kept, size_bytes)

    with ThreadPoolExecutor(1) as pool:
        threaded = pool.submit(megabytes_per_s, encode, size_bytes, seconds).result()
    return {
        "encode": megabytes_per_s(encode, size_bytes, seconds),
        "decode": megabytes_per_s(decode, size_bytes, seconds),
        "encode_in_thread": threaded,
    }


def main() -> None:
    """Measure all and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.3, help="for each figure")
    parser.add_argument("--stripe-bytes", type=int, default=4 * 1024 * 1024)
    options = parser.parse_args()
    report: dict[str, object] = {"stripe_bytes": options.stripe_bytes, "unit": "MB/s"}
    for codec in codecs():
        slow = codec.name == ReferenceEngine.name
        size_bytes = min(REFERENCE_BYTES, options.stripe_bytes) if slow else options.stripe_bytes
        report[codec.name] = {
            "known_answers": answers_agree(codec),
            **{text: measure(codec, text, size_bytes, options.seconds) for text in PROFILES},
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
