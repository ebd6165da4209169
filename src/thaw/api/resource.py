"""What the operations of every resource know."""

from __future__ import annotations

from thaw.api.identifier import Identifiers
from thaw.catalog.catalog import Catalog


class Resource:
    """Base of the classes whose methods are the operations of one resource."""

    def __init__(self, catalog: Catalog, identifiers: Identifiers) -> None:
        self._catalog = catalog
        self._attached = catalog.attachments
        self._identifiers = identifiers
