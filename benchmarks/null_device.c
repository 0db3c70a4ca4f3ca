// SPDX-License-Identifier: MIT
/*
 * The limit that null_device.py compares with: commands on /dev/null a second, from one thread of C on the native core.
 *
 *   null_device DEPTH SECONDS
 *
 * DEPTH reads of a block into registered memory are laid out anew and submitted together, and reaped together, over and over.
 */
#define _GNU_SOURCE
#include "core.h"

#include <fcntl.h>
#include <liburing.h>
#include <linux/nvme_ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_DEPTH 1024
#define BLOCK_BYTES 512
#define READ 0x02

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
	static struct aionvme_sqe sqes[MAX_DEPTH];
	static struct aionvme_cqe cqes[MAX_DEPTH];
	const unsigned depth = argc == 3 ? atoi(argv[1]) : 0;
	static uint8_t memory[MAX_DEPTH * BLOCK_BYTES] __attribute__((aligned(4096)));
	const int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct aionvme_ring *ring;
	unsigned long commands = 0;
	double start, end;

	if (!depth || depth > MAX_DEPTH || aionvme_ring_open(depth, 2 * depth, false, &ring) ||
	    aionvme_ring_register_files(ring, &fd, 1) || aionvme_ring_reserve_buffers(ring, 1) ||
	    aionvme_ring_set_buffer(ring, 0, memory, sizeof(memory)))
		return 2;
	start = now();
	do {
		for (unsigned k = 0; k < 1024; k += depth) {
			unsigned accepted, done = 0;

			for (unsigned i = 0; i < depth; i++) {
				struct io_uring_sqe *sqe = (struct io_uring_sqe *)&sqes[i];
				struct nvme_uring_cmd *cmd = (struct nvme_uring_cmd *)sqe->cmd;

				memset(&sqes[i], 0, sizeof(sqes[i]));
				sqe->opcode = IORING_OP_URING_CMD;
				sqe->flags = IOSQE_FIXED_FILE;
				sqe->uring_cmd_flags = IORING_URING_CMD_FIXED;
				sqe->user_data = i;
				cmd->opcode = READ;
				cmd->nsid = 1;
				cmd->addr = (uintptr_t)&memory[i * BLOCK_BYTES];
				cmd->data_len = BLOCK_BYTES;
				cmd->cdw10 = i;
			}
			done = aionvme_ring_tick(ring, sqes, depth, &accepted, cqes, depth);
			while (done < depth) {
				const int ret = aionvme_ring_tick(ring, NULL, 0, &accepted, cqes, depth);

				if (ret < 0)
					return 1;
				done += ret;
			}
			commands += depth;
		}
		end = now();
	} while (end - start < atof(argv[2]));
	printf("%.0f\n", commands / (end - start));
	aionvme_ring_close(ring);
	return 0;
}
