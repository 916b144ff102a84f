"""The text of a token: golden bytes, what else may stand for it, and nothing else may."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend import ticket_format
from frontend.ticket_format import Payload, read, write
from osscore.errors import ForgedToken, MalformedToken

SECRET = bytes(range(32))
HELLO = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
TICKET = Payload(
    token_type=2,
    expire_at=1_800_086_400,
    create_time=1_800_000_000,
    hash=HELLO,
    kid="0123456789ab",
    jti="00112233445566778899aabb",
)
SHARE = Payload(
    token_type=4,
    expire_at=1_800_086_400,
    create_time=1_800_000_000,
    kid="0123456789ab",
    jti="00112233445566778899aabb",
    bucket="objects",
    key="ü?>~",
    number=3,
    disposition="inline",
    owner="ROOT",
    owner_since=1_700_000_000_000,
)
GOLDEN = {
    "ticket": (
        TICKET,
        b'{"token_type":2,"expire_at":1800086400,"create_time":1800000000,"hash":"'
        + HELLO.encode()
        + b'","kid":"0123456789ab","jti":"00112233445566778899aabb"}',
        "b4957c0dee5ab003bfaf6f3f242a4802650c0d2755b8de5bf9ee3062c30290ab",
    ),
    "share": (
        SHARE,
        b'{"token_type":4,"expire_at":1800086400,"create_time":1800000000,"kid":"0123456789ab",'
        b'"jti":"00112233445566778899aabb","bucket":"objects","key":"\xc3\xbc?>~","number":3,'
        b'"disposition":"inline","owner":"ROOT","owner_since":1700000000000}',
        "b9609a4a3ae6890c0d4d3718f0a2af9d98fc16da95f444cf3565d87c34e92530",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_tokens_keep_their_bytes(name: str) -> None:
    payload, json, mac = GOLDEN[name]
    text = write(payload, SECRET)
    assert text == f"{base64.urlsafe_b64encode(json).rstrip(b'=').decode()}.{mac}"
    claim = read(text)
    claim.verify(SECRET)
    assert claim.payload == payload


@pytest.mark.parametrize("name", GOLDEN)
def test_standard_base64_with_or_without_padding_is_the_same_token(name: str) -> None:
    payload, json, mac = GOLDEN[name]
    standard = base64.b64encode(json).decode()
    for body in (standard, standard.rstrip("="), base64.urlsafe_b64encode(json).decode()):
        claim = read(f"{body}.{mac}")
        claim.verify(SECRET)
        assert claim.payload == payload


def test_the_share_of_the_golden_bytes_tells_the_two_alphabets_apart() -> None:
    assert set("-_") & set(write(SHARE, SECRET))


def is_refused(text: str) -> bool:
    try:
        read(text).verify(SECRET)
    except (MalformedToken, ForgedToken):
        return True
    return False


@pytest.mark.parametrize("payload", [TICKET, SHARE])
def test_every_flipped_bit_is_refused(payload: Payload) -> None:
    raw = write(payload, SECRET).encode()
    for position in range(len(raw)):
        for bit in range(8):
            flipped = bytearray(raw)
            flipped[position] ^= 1 << bit
            assert is_refused(flipped.decode("latin-1")), (position, bit)


@pytest.mark.parametrize("payload", [TICKET, SHARE])
def test_every_truncation_is_refused(payload: Payload) -> None:
    text = write(payload, SECRET)
    assert not is_refused(text)
    for size in range(len(text)):
        assert is_refused(text[:size])
        assert is_refused(text[size + 1 :])


def test_another_key_makes_another_token() -> None:
    with pytest.raises(ForgedToken):
        read(write(TICKET, SECRET)).verify(SECRET[::-1])


def token_of(json: bytes) -> str:
    body = base64.urlsafe_b64encode(json).rstrip(b"=").decode()
    return f"{body}.{'0' * 64}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "nonsense",
        "Zm9v." + "0" * 63,
        "Zm9v." + "0" * 65,
        "Zm9v." + "A" * 64,
        "Z m9v." + "0" * 64,
        "Zm9v=." + "0" * 64,
        "Zm9v\n." + "0" * 64,
        token_of(b"[]"),
        token_of(b"{}"),
        token_of(b'{"token_type":"2","expire_at":1,"create_time":1,"kid":"k","jti":"j"}'),
        token_of(b'{"token_type":2,"expire_at":1,"create_time":1,"kid":"","jti":"j"}'),
        token_of(b'{"token_type":2,"expire_at":1,"create_time":1,"kid":"k k","jti":"j"}'),
        token_of(
            b'{"token_type":2,"expire_at":1,"create_time":1,"kid":"k","jti":"' + b"j" * 65 + b'"}'
        ),
        "A" * (ticket_format.TEXT_CHARS_MAX + 1),
    ],
)
def test_what_is_no_token_is_malformed(text: str) -> None:
    with pytest.raises(MalformedToken):
        read(text)


@given(text=st.text(max_size=300))
def test_any_text_is_refused_cleanly(text: str) -> None:
    assert is_refused(text)


@given(
    key=st.text(min_size=1, max_size=100).filter(lambda key: key.isprintable()),
    number=st.integers(1, 1 << 62),
    secret=st.binary(min_size=32, max_size=32),
)
def test_whatever_is_written_is_read_again(key: str, number: int, secret: bytes) -> None:
    payload = Payload(
        token_type=4, expire_at=1, create_time=0, kid="k", jti="j", key=key, number=number
    )
    claim = read(write(payload, secret))
    claim.verify(secret)
    assert claim.payload == payload


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_json_nested_a_thousand_deep_is_malformed(opening: bytes) -> None:
    body = b'{"x":' + opening * (8000 // len(opening))
    with pytest.raises(MalformedToken):
        read(f"{base64.urlsafe_b64encode(body).rstrip(b'=').decode()}.{'0' * 64}")
