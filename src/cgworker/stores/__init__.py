"""Private stores: where workers keep what must not be public in CommonGround."""

from cgworker.stores.folder import FolderStore
from cgworker.stores.objects import ObjectStore, key_from_file
from cgworker.stores.store import ListingStore, PrivateStore

__all__ = ["FolderStore", "ListingStore", "ObjectStore", "PrivateStore", "key_from_file"]
