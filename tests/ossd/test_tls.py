"""TLS by a switch: the same server and client over an encrypted connection."""

import datetime
import ipaddress
import ssl

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
