"""Commands of the Zoned Namespace Command Set (Zoned Namespace Command Set Specification 1.1, section 3.4)."""

from aionvme.nvme.command import Command, fit
from aionvme.nvme.nvm import split_lba, wire_nlb
from aionvme.nvme.opcodes import NvmOpcode, ReportingOptions, ZoneReceiveAction, ZoneSendAction


def zone_append(
    zslba: int, nlb: int, *, fua: bool = False, limited_retry: bool = False, piremap: bool = False
) -> Command:
    """Append ``nlb`` (1-based) logical blocks to the zone that starts at ``zslba`` (section 3.4.1).

    The completion's 64-bit result is the address of the first block written.
    """
    low, high = split_lba(zslba, "zslba")
    cdw12 = wire_nlb(nlb) | bool(piremap) << 25 | bool(fua) << 30 | bool(limited_retry) << 31
    return Command(NvmOpcode.ZONE_APPEND, cdw10=low, cdw11=high, cdw12=cdw12)


def zone_management_send(
    action: ZoneSendAction, slba: int = 0, *, select_all: bool = False, zsaso: bool = False
) -> Command:
    """Do ``action`` on the zone that starts at ``slba``, or on every zone it applies to (section 3.4.3).

    ``slba`` is ignored with ``select_all``. ``zsaso`` is the action's own option: with OPEN and
    SET_ZONE_DESCRIPTOR_EXTENSION, allocate a random write area (Technical Proposal 4076). FLUSH_EXPLICIT_ZRWA_RANGE takes the
    last address to flush as ``slba``, and SET_ZONE_DESCRIPTOR_EXTENSION sends the extension as data.
    """
    low, high = split_lba(slba)
    cdw13 = fit("action", action, 8) | bool(select_all) << 8 | bool(zsaso) << 9
    return Command(NvmOpcode.ZONE_MANAGEMENT_SEND, cdw10=low, cdw11=high, cdw13=cdw13)


def zone_management_receive(
    action: ZoneReceiveAction,
    slba: int,
    len_bytes: int,
    *,
    options: ReportingOptions = ReportingOptions.ALL,
    partial: bool = False,
) -> Command:
    """Report zones from the one that holds ``slba``, into ``len_bytes`` of data (section 3.4.2).

    ``len_bytes`` is a multiple of 4. With ``partial`` the header counts the descriptors transferred, without it every
    zone that matches.
    """
    if not 4 <= len_bytes <= 1 << 34 or len_bytes % 4:
        raise ValueError(f"len_bytes = {len_bytes}: a zone report is 1 to 2**32 dwords of 4 bytes")
    low, high = split_lba(slba)
    return Command(
        NvmOpcode.ZONE_MANAGEMENT_RECEIVE,
        cdw10=low,
        cdw11=high,
        cdw12=len_bytes // 4 - 1,
        cdw13=fit("action", action, 8) | fit("options", options, 8) << 8 | bool(partial) << 16,
    )
