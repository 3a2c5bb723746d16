"""DSSE envelopes: a payload with the signature of its type and its bytes.

https://github.com/secure-systems-lab/dsse: what is signed is PAE(type, payload). A file of ours is
the only one of its content: compact JSON with sorted members and one newline at its end. So a file
with any other byte is not the one that was issued.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
SIGNATURE_BYTES = 64


class NotAnEnvelope(ValueError):
    """A file that has no envelope."""


@dataclass(frozen=True)
class Envelope:
    """A payload and the signature under it. `key_id` is what the file calls the key, unchecked."""

    payload: bytes
    key_id: str
    signature: bytes
    payload_type: str = PAYLOAD_TYPE

    def encode(self) -> bytes:
        """Return the file."""
        signature = {"keyid": self.key_id, "sig": base64.b64encode(self.signature).decode()}
        members = {
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": self.payload_type,
            "signatures": [signature],
        }
        return canonical_json(members) + b"\n"

    def is_signed_by(self, key: Ed25519PublicKey) -> bool:
        """Check the signature with a public key."""
        try:
            key.verify(self.signature, pae(self.payload_type, self.payload))
        except InvalidSignature:
            return False
        return True

    def signer(self, keys: Iterable[Ed25519PublicKey]) -> Ed25519PublicKey | None:
        """Return which of these keys signed it, whatever the file says; None when none did."""
        return next((key for key in keys if self.is_signed_by(key)), None)


def sign(payload: bytes, key: Ed25519PrivateKey) -> Envelope:
    signature = key.sign(pae(PAYLOAD_TYPE, payload))
    return Envelope(payload, key_id(key.public_key()), signature)


def decode(file: bytes) -> Envelope:
    """Read an envelope with one signature. NotAnEnvelope for any other file."""
    members = read_json(file)
    try:
        [signature] = members["signatures"]
        payload = base64.b64decode(members["payload"], validate=True)
        signed = base64.b64decode(signature["sig"], validate=True)
        names = (members["payloadType"], signature["keyid"])
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise NotAnEnvelope("The file holds no signed statement.") from error
    if not all(isinstance(name, str) for name in names) or len(signed) != SIGNATURE_BYTES:
        raise NotAnEnvelope("The file holds no signed statement.")
    return Envelope(payload, names[1], signed, names[0])


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: DSSE's pre-authentication encoding."""
    name = payload_type.encode(errors="surrogatepass")
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def key_id(key: Ed25519PublicKey) -> str:
    """Return the name of a key: the SHA-256 of its DER form (SubjectPublicKeyInfo), in hex."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def canonical_json(value: Any) -> bytes:
    """Return the one form of a JSON value that is hashed and signed."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def read_json(file: bytes) -> Any:
    """Decode JSON of any shape. NotAnEnvelope when it is none."""
    try:
        return json.loads(file)
    except (ValueError, RecursionError) as error:  # also what is no UTF-8
        raise NotAnEnvelope("The file is no JSON document.") from error
