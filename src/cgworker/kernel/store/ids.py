"""Create and parse ids, tokens and digests (wire 4)."""

from __future__ import annotations

import hashlib
import io
import os
import re
import time
import uuid
from binascii import b2a_base64
from typing import Any

from cgworker.kernel.offload import offload
from cgworker.wire.converter import dumps, loads
from cgworker.wire.refs import TurnRef
from cgworker.wire.values import ExactNumber, JsonText

_WRITE_KEYS = uuid.uuid5(uuid.NAMESPACE_URL, "commonground-kernel/cardbox-write-key").bytes
_TURN_ID = re.compile(r"T-([1-9][0-9]{0,17})\Z", re.ASCII)
_POOL_BYTES = 4096
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_CONTAINERS = (dict, list, tuple)
_PLAIN = frozenset({str, int, bool, type(None)})
_QUICK = 4096  # characters; to parse more may take milliseconds
_MAX_PLAIN_DIGITS = 640  # digits; Python converts so many whatever limit it has been given


def turn_id(number: int) -> str:
    """Return the id of a turn: `T-<n>`."""
    return f"T-{number}"


def turn_ref(project_id: str, number: int) -> TurnRef:
    """Return the reference of a turn."""
    return TurnRef(project_id=project_id, turn_id=f"T-{number}")


def turn_number(id: str) -> int:
    """Return the number of a turn id; 0, which no turn has, for any other text."""
    found = _TURN_ID.match(id)
    return int(found[1]) if found else 0


def new_record_id() -> str:
    """Create a record id: `record_` and a UUIDv4."""
    return f"record_{_new_uuid(version=4).replace('-', '')}"


def new_box_id() -> str:
    """Create a box id, a UUIDv7: it starts with the time, so that new ids are adjacent in an index."""
    return _new_uuid(int(time.time() * 1000).to_bytes(6, "big"), version=7)


def _new_uuid(start: bytes = b"", *, version: int) -> str:
    """Return a UUID: its start, then random bytes. A turn needs five, and `uuid.UUID` is slower than this.

    One system call gets the bytes for hundreds of ids. No secret is made of them.
    """
    global _pool
    count = 16 - len(start)
    while len(taken := _pool.read(count)) < count:
        _pool = io.BytesIO(os.urandom(_POOL_BYTES))
    octets = bytearray(start + taken)
    octets[6] = octets[6] & 0x0F | version << 4
    octets[8] = octets[8] & 0x3F | 0x80
    digits = octets.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _empty_pool() -> None:
    global _pool  # a forked child must not give its parent's ids
    _pool = io.BytesIO()


_pool: io.BytesIO
_empty_pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_empty_pool)


def keyed_box_id(project_id: str, write_key: str) -> str:
    """Return the box id of a write key, which is always the same."""
    name = hashlib.sha1(_WRITE_KEYS + f"{project_id}:{write_key}".encode(), usedforsecurity=False)
    return _new_uuid(name.digest()[:16], version=5)


def new_claim_token() -> str:
    """Create a claim token: 32 URL-safe characters."""
    return b2a_base64(os.urandom(24), newline=False).translate(_URL_SAFE).decode()


def hash_of(secret: str) -> bytes:
    """Return the hash that is stored of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def digest(value: Any) -> bytes:
    """Return a digest that is equal for values equal as jsonb: any order of keys and form of numbers."""
    return hashlib.sha256(_ordered_text(value)).digest()


async def digest_of_text(text: str) -> bytes:
    """Return the digest of a value that is stored as this text; long texts are parsed in the side process."""
    if len(text) > _QUICK:
        return await offload(_parse_and_digest, text, size_bytes=len(text))
    return _parse_and_digest(text)


def _parse_and_digest(text: str) -> bytes:
    return digest(loads(text))


def json_text(value: Any) -> JsonText:
    """Return the value as JSON text, which `dumps` and `digest` treat as the value itself."""
    text, ordered = dumps(value), _ordered_text(value)
    return JsonText(text, text if ordered == text else ordered)


def _ordered_text(value: Any) -> bytes:
    """Return the text that is the same for equal values: keys in order, and one form for each number."""
    return dumps(_plain_numbers(value) if _has_float(value) else value, sort_keys=True)


def _has_float(value: Any) -> bool:
    """Whether there is a number other than an `int`. To search the text takes longer: it may be prose."""
    left: list[Any] = [(value,)]
    while left:
        several = left.pop()
        for each in several.values() if isinstance(several, dict) else several:
            kind = type(each)
            if kind in _PLAIN:
                continue
            if issubclass(kind, float):
                return True
            if issubclass(kind, _CONTAINERS):
                left.append(each)
    return False


def _plain_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_numbers(item) for item in value]
    if isinstance(value, float):
        return _plain(value)
    return value


def _plain(number: float) -> Any:
    """Return one form for each number: the digits without trailing zeros, and the exponent."""
    text = number.text if isinstance(number, ExactNumber) else repr(number)
    sign, digits, exponent = _parts(text)
    if not digits:
        return 0
    if exponent >= 0 and len(digits) + exponent < _MAX_PLAIN_DIGITS:
        return int(f"{sign}{digits}{'0' * exponent}")
    return {"\0number": f"{sign}{digits}e{exponent}"}


def _parts(text: str) -> tuple[str, str, int]:
    mantissa, _, power = text.lower().partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    exponent = int(power or 0) - len(fraction)
    stripped = digits.rstrip("0")
    return sign, stripped, exponent + len(digits) - len(stripped)
