"""The runtime hooks under the name that many articles give them; the real module is snapshot_restore_py."""

from snapshot_restore_py import (
    get_after_restore,
    get_before_snapshot,
    register_after_restore,
    register_before_snapshot,
)

__all__ = ["get_after_restore", "get_before_snapshot", "register_after_restore", "register_before_snapshot"]
