"""Admin commands (NVM Express Base Specification 2.0, section 5)."""

from aionvme.nvme.command import Command, fit
from aionvme.nvme.opcodes import AdminOpcode, CommandSetIdentifier

IDENTIFY_LEN_BYTES = 4096
"""Length of every data structure that Identify returns."""


def identify(cns: int, *, nsid: int = 0, csi: int = CommandSetIdentifier.NVM, cntid: int = 0) -> Command:
    """Identify (section 5.17): data structure ``cns``, 4096 bytes, for a namespace, a controller or a command set."""
    cdw10 = fit("cns", cns, 8) | fit("cntid", cntid, 16) << 16
    return Command(AdminOpcode.IDENTIFY, nsid=nsid, cdw10=cdw10, cdw11=fit("csi", csi, 8) << 24)


def get_log_page(
    lid: int,
    len_bytes: int,
    *,
    nsid: int = 0xFFFF_FFFF,
    lsp: int = 0,
    lsi: int = 0,
    rae: bool = False,
    offset_bytes: int = 0,
    csi: int = CommandSetIdentifier.NVM,
) -> Command:
    """Get Log Page (section 5.16): ``len_bytes`` of log ``lid``, both length and offset in multiples of 4.

    ``lsi`` is the log specific identifier, such as an endurance group's; ``rae`` keeps the asynchronous event that announced the
    log.
    """
    if not 4 <= len_bytes <= 1 << 34 or len_bytes % 4:
        raise ValueError(f"len_bytes = {len_bytes}: a log page is read as 1 to 2**32 dwords of 4 bytes")
    if fit("offset_bytes", offset_bytes, 64) % 4:
        raise ValueError(f"offset_bytes = {offset_bytes}: a log page is read from a multiple of 4")
    numd = len_bytes // 4 - 1
    return Command(
        AdminOpcode.GET_LOG_PAGE,
        nsid=nsid,
        cdw10=fit("lid", lid, 8) | fit("lsp", lsp, 7) << 8 | bool(rae) << 15 | (numd & 0xFFFF) << 16,
        cdw11=numd >> 16 | fit("lsi", lsi, 16) << 16,
        cdw12=offset_bytes & 0xFFFF_FFFF,
        cdw13=offset_bytes >> 32,
        cdw14=fit("csi", csi, 8) << 24,
    )


def get_features(fid: int, *, sel: int = 0, nsid: int = 0, cdw11: int = 0) -> Command:
    """Get Features (section 5.15): ``sel`` 0 current, 1 default, 2 saved, 3 supported capabilities."""
    cdw10 = fit("fid", fid, 8) | fit("sel", sel, 3) << 8
    return Command(AdminOpcode.GET_FEATURES, nsid=nsid, cdw10=cdw10, cdw11=cdw11)


def set_features(fid: int, value: int, *, save: bool = False, nsid: int = 0, cdw12: int = 0) -> Command:
    """Set Features (section 5.27): ``value`` is command dword 11."""
    cdw10 = fit("fid", fid, 8) | bool(save) << 31
    return Command(AdminOpcode.SET_FEATURES, nsid=nsid, cdw10=cdw10, cdw11=value, cdw12=cdw12)
