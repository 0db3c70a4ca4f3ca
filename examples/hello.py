"""Write a block, read it back: ``python examples/hello.py [TARGET]``.

TARGET is a conventional namespace: ``/dev/ng0n1``, or an emulated one, which is what runs without it.
"""

import asyncio
import sys

import aionvme


async def main(target: str) -> None:
    """Greet the device, and be greeted back."""
    async with aionvme.open(target) as ns:
        print(f"{ns.nsze} blocks of {ns.lba_size} bytes, by way of the queue: {ns.queue}")
        await ns.write(0, b"hello, NVMe".ljust(ns.lba_size, b"\0"))
        await ns.flush()
        data = await ns.read(0, 1)
        print(data.tobytes().rstrip(b"\0").decode())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "emu:nvm?size=64MiB"))
