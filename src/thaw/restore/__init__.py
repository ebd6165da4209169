"""The parts of a snapshot become running clones.

`check` compares this machine with the one the snapshot comes from; `template` is the process that holds the function's
address space and from which every clone is forked; `resident` fills it while the memory image arrives, and
`page_faults` gives clones what their template did not have yet; `disk` unpacks /tmp.
"""

from thaw.restore.arrival import ImageSource, Put
from thaw.restore.check import check, check_files
from thaw.restore.disk import unpack_folder
from thaw.restore.page_faults import PageFaults, PageFaultService
from thaw.restore.resident import Observed, Resident
from thaw.restore.template import Cloned, Template

__all__ = [
    "Cloned",
    "ImageSource",
    "Observed",
    "PageFaultService",
    "PageFaults",
    "Put",
    "Resident",
    "Template",
    "check",
    "check_files",
    "unpack_folder",
]
