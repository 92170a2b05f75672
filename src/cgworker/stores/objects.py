"""`ObjectStore`: private values in an object store, such as S3: `cgworker[private]`."""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
from datetime import timedelta
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from cgworker.errors import UsageError
from cgworker.private import check_private, make_private_folder
from cgworker.stores.segments import sync_file
from cgworker.stores.threads import in_thread

_KEY_BYTES = 32
_NONCE_BYTES = 12
_REPEATS = {"max_retries": 1000, "retry_timeout": timedelta(minutes=3)}  # obstore's ten may take two seconds

_logger = logging.getLogger("cgworker")


class ObjectStore:
    """Keeps private values in an object store: S3 and what speaks its protocol, GCS, Azure, or a folder.

    Workers on several machines share it. With a key, the values are encrypted here (AES-256-GCM), and the
    store sees only their names and sizes. A value that cannot be decrypted counts as missing.

    Args:
        url: the place of the values, such as `s3://bucket/prefix`, `gs://bucket/prefix`,
            `az://account/container/prefix` or `file:///folder`.
        key: 32 bytes, the same for all workers, as `key_from_file` returns them; None encrypts nothing.
        settings: further arguments of `obstore.store.from_url`, such as `region=` or `client_options=`.
            By default credentials come from the environment, as for other programs of that store, and a
            request is repeated for three minutes (`retry_config=`).

    Raises:
        UsageError: a package is missing, the key has another length, or the URL or a setting is no good.
    """

    def __init__(self, url: str, *, key: bytes | None = None, **settings: Any) -> None:
        _require("obstore")
        if key is not None:
            _require("cryptography")
            if len(key) != _KEY_BYTES:
                raise UsageError(f"the key of a private store has {_KEY_BYTES} bytes, not {len(key)}")
        from obstore.exceptions import BaseError
        from obstore.store import from_url

        self._url = url
        self._key = key
        self._folder: Path | None = None
        if urlsplit(url).scheme == "file":
            self._folder = Path(url2pathname(urlsplit(url).path))
            make_private_folder(self._folder)
        elif urlsplit(url).scheme != "memory":
            settings = {"retry_config": _REPEATS, **settings}
        try:
            self._store: Any = from_url(url, **settings)
        except (BaseError, ValueError, TypeError) as refused:
            raise UsageError(f"{url} is no place for private values: {refused}") from refused

    def __repr__(self) -> str:
        return f"ObjectStore({self._url!r}{', key=...' if self._key else ''})"

    @cached_property
    def _cipher(self) -> Any:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._key or b"")

    async def put(self, name: str, data: bytes) -> None:
        """Store data under a name, encrypted if there is a key.

        Args:
            name: the name.
            data: the data.

        Raises:
            obstore.exceptions.BaseError, OSError: the store did not take it, after repeats for three minutes.
        """
        await in_thread(partial(self._put, name, data))

    def _put(self, name: str, data: bytes) -> None:
        import obstore

        if self._key is not None:
            nonce = os.urandom(_NONCE_BYTES)
            data = nonce + self._cipher.encrypt(nonce, data, name.encode())
        obstore.put(self._store, name, data)
        if self._folder is not None:  # obstore does not
            sync_file(self._folder / name)

    async def get(self, name: str) -> bytes | None:
        """Return the data under a name; None if there is none, or none that this key decrypts.

        Args:
            name: the name.

        Raises:
            obstore.exceptions.BaseError, OSError: the store did not answer, after repeats for three minutes.
        """
        return await in_thread(partial(self._get, name))

    def _get(self, name: str) -> bytes | None:
        import obstore

        try:
            data = bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError:
            return None
        return data if self._key is None else self._decrypt(name, data)

    def _decrypt(self, name: str, data: bytes) -> bytes | None:
        from cryptography.exceptions import InvalidTag

        try:
            plain: bytes = self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError):
            _logger.warning("%s: %s was encrypted with another key, or changed", self._url, name)
            return None
        return plain

    async def names(self, prefix: str) -> list[str] | None:
        """Return all names that begin with `<prefix>/`; None without a key, unless the store is a folder.

        Args:
            prefix: the part of the names that stands for the turn.

        Raises:
            obstore.exceptions.BaseError, OSError: the store did not answer, after repeats for three minutes.
        """
        if self._key is None and self._folder is None:
            return None
        return await in_thread(partial(self._names, prefix))

    def _names(self, prefix: str) -> list[str]:
        import obstore

        return [each["path"] for found in obstore.list(self._store, prefix=prefix) for each in found]

    async def delete(self, prefix: str) -> None:
        """Remove all names that begin with `<prefix>/`.

        Args:
            prefix: the part of the names that stands for the turn.

        Raises:
            obstore.exceptions.BaseError, OSError: the store did not answer, after repeats for three minutes.
        """
        await in_thread(partial(self._delete, prefix))

    def _delete(self, prefix: str) -> None:
        import obstore

        for found in obstore.list(self._store, prefix=prefix):
            try:
                obstore.delete(self._store, [each["path"] for each in found])
            except FileNotFoundError:  # another worker removes them too
                continue


def key_from_file(path: Path | str) -> bytes:
    """Return the key of a private store from a file, as `openssl rand -base64 32` makes it.

    Args:
        path: a file of this user alone (mode 0600) with 32 bytes in Base64.

    Raises:
        UsageError: there is no such file, its content is no such key, or other users may read it.
    """
    path = Path(path).expanduser()
    try:
        check_private(path)
        key = base64.b64decode(re.sub(r"\s", "", path.read_text("ascii")), validate=True)
    except OSError as unreadable:
        raise UsageError(f"the key file {path} cannot be read: {unreadable.strerror}") from unreadable
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != _KEY_BYTES:
        raise UsageError(
            f"{path} is no key file: it needs {_KEY_BYTES} bytes in Base64 (openssl rand -base64 32)"
        )
    return key


def _require(package: str) -> None:
    if find_spec(package) is None:
        raise UsageError(f"ObjectStore needs the package {package}: pip install 'cgworker[private]'")
