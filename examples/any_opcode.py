"""Commands by their dwords, whatever the opcode: ``python examples/any_opcode.py [TARGET]``.

Passthrough does not care what a command means. Fields have the specification's names and values, numbers of blocks are 0's
based as on the wire, and the completion is given as it came: status and 64-bit result. TARGET is a conventional namespace.
"""

import asyncio
import sys

import numpy as np

import aionvme


async def main(target: str) -> None:
    """A write, a compare that fails, an admin command, and an opcode that nobody knows."""
    async with aionvme.open(target) as ns:
        block = np.full(ns.lba_size, 0xA5, np.uint8)
        write = aionvme.Command(opcode=0x01, cdw10=8, cdw12=0)
        print("Write:            ", await ns.submit(write, data=block))

        block[0] ^= 1
        compare = aionvme.Command(opcode=0x05, cdw10=8, cdw12=0)
        print("Compare, changed: ", await ns.submit(compare, data=block))

        page = np.zeros(4096, np.uint8)
        identify_controller = aionvme.Command(opcode=0x06, cdw10=0x01)
        done = await ns.submit_admin(identify_controller, into=page)
        print("Identify:         ", done, page[24:64].tobytes().decode().strip())

        print("Opcode 90h:       ", await ns.submit(aionvme.Command(opcode=0x90)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "emu:nvm?size=64MiB"))
