"""What the data structures of Identify say, without what each controller says of itself alone: so that two can be compared."""

import numpy as np
from numpy.typing import NDArray

from aionvme.nvme.identify import (
    IDENTIFY_CONTROLLER,
    IDENTIFY_NAMESPACE,
    IDENTIFY_NVM_CONTROLLER,
    IDENTIFY_ZONED_CONTROLLER,
    IDENTIFY_ZONED_NAMESPACE,
    Cns,
    parse_namespace_descriptors,
)
from aionvme.nvme.layout import layout
from aionvme.nvme.opcodes import CommandSetIdentifier

_NVM, _ZONED = CommandSetIdentifier.NVM, CommandSetIdentifier.ZONED
_LISTS = (Cns.ACTIVE_NAMESPACE_LIST, Cns.CSI_ACTIVE_NAMESPACE_LIST)
_NVM_NAMESPACE = layout(4096, [
    ("lbstm", 0, "<u8"), ("pic", 8, "u1"), ("elbaf", 12, ("<u4", (64,))), ("npdgl", 268, "<u4"), ("npdal", 284, "<u4"),
])  # fmt: skip
"""Identify Namespace of the NVM Command Set, CNS 05h with CSI 00h (NVM Command Set 1.0, section 4.1.5; the last two are hints
for Dataset Management of later revisions)."""
_STRUCTURES: dict[tuple[int, int | None], np.dtype[np.void]] = {
    (Cns.NAMESPACE, None): IDENTIFY_NAMESPACE,
    (Cns.CONTROLLER, None): IDENTIFY_CONTROLLER,
    (Cns.CSI_NAMESPACE, _NVM): _NVM_NAMESPACE,
    (Cns.CSI_NAMESPACE, _ZONED): IDENTIFY_ZONED_NAMESPACE,
    (Cns.CSI_CONTROLLER, _NVM): IDENTIFY_NVM_CONTROLLER,
    (Cns.CSI_CONTROLLER, _ZONED): IDENTIFY_ZONED_CONTROLLER,
}
"""By CNS, and by CSI where that matters."""
_OWN: dict[np.dtype[np.void], set[str]] = {
    _NVM_NAMESPACE: {"elbaf", "npdgl", "npdal"},
    # Formats with metadata, a subsystem with endurance groups, and hints; of a zoned namespace QEMU counts blocks that cannot be
    # written as capacity.
    IDENTIFY_NAMESPACE: {
        "ncap", "nuse", "nsfeat", "nlbaf", "flbas", "mc", "dpc", "dlfeat", "nvmcap", "npdg", "npda", "lbaf",
        "nmic", "endgid",
    },
    # Who made it, and what the other one has not: Write Uncorrectable, Timestamp, Namespace Attachment, SGLs.
    IDENTIFY_CONTROLLER: {
        "vid", "ssvid", "sn", "mn", "fr", "rab", "ieee", "ver", "oaes", "ctratt", "oacs", "acl", "aerl", "elpe", "tnvmcap",
        "nn", "oncs", "ocfs", "sgls", "subnqn", "psd", "cmic", "endgidmax",
    },
    # QEMU has limits of Dataset Management; QEMU 7 says so of one alone, against NVM Command Set 1.0, section 3.2.3.1.
    IDENTIFY_NVM_CONTROLLER: {"dmrl", "dmrsl", "dmsl"},
    IDENTIFY_ZONED_NAMESPACE: {"lbafe"},
    IDENTIFY_ZONED_CONTROLLER: set(),
}  # fmt: skip
"""Fields that are the controller's own affair. Of the LBA formats the one in use is compared."""


def says(cns: int, csi: int, page: NDArray[np.uint8], nsid: int, lba_format: int) -> dict[str, object]:
    """The page in comparable parts; ``nsid`` and ``lba_format`` are those of the controller's namespace."""
    if cns in _LISTS:
        nsids = np.trim_zeros(page.view("<u4"), "b").tolist()
        return {"in order": nsids == sorted({*nsids} - {0}), "listed": nsid in nsids}
    if cns == Cns.NAMESPACE_DESCRIPTORS:
        return {"csi": parse_namespace_descriptors(page).csi}
    dtype = _STRUCTURES.get((cns, csi), _STRUCTURES.get((cns, None)))
    if dtype is None:
        return {"page": page.tobytes()}
    raw = page.view(dtype)[0]
    assert dtype.names is not None
    said: dict[str, object] = {name: raw[name].tobytes() for name in dtype.names if name not in _OWN[dtype]}
    for name in ("lbaf", "lbafe", "elbaf"):
        if name in dtype.names:
            said[name] = raw[name][lba_format].tobytes()
    return said | {"reserved": _reserved(page, dtype)}


def _reserved(page: NDArray[np.uint8], dtype: np.dtype[np.void]) -> bytes:
    """The bytes that belong to no field."""
    kept = page.copy()
    assert dtype.fields is not None
    for part, offset, *_ in dtype.fields.values():
        kept[offset : offset + part.itemsize] = 0
    return kept.tobytes()
