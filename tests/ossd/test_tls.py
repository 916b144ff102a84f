"""TLS by a switch: the same server and client over an encrypted connection."""

import asyncio
import datetime
import ipaddress
import os
import ssl
import sys
import textwrap

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from osscore.errors import PeerUnreachable
from ossd.http import Handler, serve
from ossd.rpc import AioRpc
from tests.ossd.serving import settings


class Echo(Handler):
    body_bytes_max = 10_000_000

    async def put(self) -> None:
        await self.reply_body(self.body)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(host, critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(cert.public_bytes(form))
    private = key.private_bytes(
        form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    return folder


async def test_large_bodies_cross_tls_both_ways(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    routes = [("/", Echo)]
    server = serve(routes, settings=settings(), address="127.0.0.1", port=0, ssl_context=context)
    url = f"https://127.0.0.1:{server.port}/"
    trusting = ssl.create_default_context(cafile=certificate / "cert.pem")
    rpc, stranger = AioRpc(signer=None, ssl_context=trusting), AioRpc(signer=None)
    try:
        for size in (0, 10, 5_000_000):
            reply = await rpc.call("PUT", url, body=bytes(size), deadline_s=10)
            assert (reply.status, reply.body) == (200, bytes(size))
        with pytest.raises(PeerUnreachable, match="certificate"):
            await stranger.call("PUT", url, deadline_s=10)
    finally:
        await rpc.close()
        await stranger.close()
        await server.stop(0)


CALLERS = {
    "a role": """
        from ossd.rpc import AioRpc
        rpc = AioRpc(signer=None)
        async def call():
            try:
                return (await rpc.call("GET", url + "/v1/status", deadline_s=10)).body
            finally:
                await rpc.close()
        known = certificates_known()
        answer = asyncio.run(call())
        """,
    "ossctl": """
        from cli.api import run
        from cli.connection import Connection
        async def nothing(api):
            return certificates_known()
        known = run(Connection(("http://127.0.0.1:1",), "a", "b"), nothing)
        async def call(api):
            async with api.request("GET", "/v1/status") as answer:
                return await answer.read()
        answer = run(Connection((url,), "a", "b"), call)
        """,
}
PRELUDE = """
import asyncio, gc, ssl, sys
url = sys.argv[1]
def certificates_known():
    found = [o for o in gc.get_objects() if isinstance(o, ssl.SSLContext)]
    return len(found), sum(context.cert_store_stats()["x509"] for context in found)
"""
EPILOGUE = "print(known, answer)"


class Status(Handler):
    async def get(self) -> None:
        await self.reply_body(b"fine")


@pytest.mark.parametrize("caller", CALLERS)
async def test_the_machines_trust_is_read_when_tls_is_spoken_and_not_before(certificate, caller):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    routes = [("/v1/status", Status)]
    server = serve(routes, settings=settings(), address="127.0.0.1", port=0, ssl_context=context)
    code = "\n".join([PRELUDE, textwrap.dedent(CALLERS[caller]), EPILOGUE])

    async def run(trusted: str) -> tuple[str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code, f"https://127.0.0.1:{server.port}"),
            env={**os.environ, "SSL_CERT_FILE": trusted, "SSL_CERT_DIR": "/nowhere"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 30)
        return out.decode(), err.decode()

    try:
        # aiohttp made its two contexts, and they know no certificate.
        assert await run(str(certificate / "cert.pem")) == ("(2, 0) b'fine'\n", "")
        out, err = await run("/nowhere")
        assert out == ""
        assert "certificate" in err
    finally:
        await server.stop(0)
