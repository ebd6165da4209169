"""A running process becomes a snapshot: restore plan, memory image, disk image and the facts about them.

The order of the modules is the order of the work: `ptrace` stops the threads, `process` reads what belongs to the
whole process, `threads`, `signals`, `timers`, `memory` and `descriptors` turn each kind of state into steps of a
`program`, `plan` lays the programs out in bytes, `disk` packs /tmp, and `freeze` joins them. `layout` puts the
memory image into the order in which calls touch it.
"""

from thaw.snapshot.freeze import Capture, FreezeTarget, freeze
from thaw.snapshot.layout import Layout, lay_out

__all__ = ["Capture", "FreezeTarget", "Layout", "freeze", "lay_out"]
