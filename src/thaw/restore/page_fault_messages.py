"""What travels between a worker and its page-fault server: MessagePack over a SOCK_SEQPACKET pair, one message each.

Descriptors travel beside a message (SCM_RIGHTS), in the order that the class names.
"""

from __future__ import annotations

import msgspec


class Image(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """A memory image that clones may want pages of.

    Descriptors: the image (a memfd that fills up), and a memfd of extents (address, size, offset: 3 x u64 each,
    ascending by address). `piece` is the number of bytes that arrive together.
    """

    image: int
    size: int
    piece: int


class Arrived(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Pieces of an image that are in its memfd now, by index."""

    image: int
    pieces: list[int]


class Serve(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """A clone's missing pages are to be served. Descriptor: its userfaultfd.

    With `record` every page is served by itself, its address noted, and whether it was written (the clone is watched).
    """

    clone: int
    image: int
    record: bool


class Ended(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """A clone is gone."""

    clone: int


class Forget(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """An image is not needed for new clones; it goes with the last clone that uses it."""

    image: int


class Report(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Ask which pages a clone touched so far."""

    clone: int


class Wanted(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """A clone waits for a piece that has not arrived."""

    image: int
    piece: int


class Broken(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """A clone's pages cannot be served (errno); it is left waiting, and has to be ended."""

    clone: int
    error: int


class Touched(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Answer to Report: addresses of pages, in the order in which they were touched; odd where they were written, too.

    Descriptor: a memfd of u64, because the list outgrows a message.
    """

    clone: int
    count: int


ToServer = Image | Arrived | Serve | Ended | Forget | Report
ToWorker = Wanted | Touched | Broken
PACKET_LIMIT = 1 << 16
BLOCK = 16 * 4096
"""Bytes of the aligned neighbourhood that comes with a page: what lies around it is often wanted next."""
encode = msgspec.msgpack.Encoder().encode
decode_for_server = msgspec.msgpack.Decoder(ToServer).decode
decode_for_worker = msgspec.msgpack.Decoder(ToWorker).decode
