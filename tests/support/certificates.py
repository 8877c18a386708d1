"""Certificate authorities and what they sign, made when a test needs them."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = datetime.timedelta(days=1)
_SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
_ATTRIBUTES = {"CN": NameOID.COMMON_NAME, "O": NameOID.ORGANIZATION_NAME}


@dataclass(frozen=True, slots=True)
class Issued:
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Keeps its files, and those of what it signs, in `folder`."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(f"CN={name}")
        builder = _builder(self._name, self._name, self._key.public_key())
        usage = x509.BasicConstraints(ca=True, path_length=0)
        # Python 3.13 insists on identifiers. Source: RFC 5280, 4.2.1.1 and 4.2.1.2
        identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        certificate = (
            builder.add_extension(usage, critical=True)
            .add_extension(_SIGNS, critical=True)
            .add_extension(identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.path = folder / f"{name}.pem".replace(" ", "-")
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, file: str = "server", *addresses: str) -> Issued:
        """For loopback, or for those addresses."""
        names = [
            x509.IPAddress(ipaddress.ip_address(text))
            for text in (addresses or ("127.0.0.1", "::1"))
        ]
        return self._issue(file, "CN=server", x509.SubjectAlternativeName(names))

    def client(
        self, subject: str = "CN=client,O=tests", file: str = "client", *, expired: bool = False
    ) -> Issued:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        return self._issue(file, subject, usage, expired=expired)

    def _issue(
        self, file: str, subject: str, extension: x509.ExtensionType, *, expired: bool = False
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(subject), self._name, key.public_key(), expired=expired)
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            builder.add_extension(extension, critical=False)
            .add_extension(signer, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        issued = Issued(self._folder / f"{file}.pem", self._folder / f"{file}.key")
        issued.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        issued.key.touch(0o600)
        issued.key.write_bytes(private)
        return issued


def _name(text: str) -> x509.Name:
    """From RFC 4514 text, which says the most specific part first."""
    parts = [part.partition("=") for part in text.split(",") if part]
    return x509.Name(
        [x509.NameAttribute(_ATTRIBUTES[key], value) for key, _, value in reversed(parts)]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, expired: bool = False
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    end = now - _DAY if expired else now + _DAY
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * _DAY)
        .not_valid_after(end)
    )
