// SPDX-License-Identifier: MIT
/*
 * Random reads over one path of the kernel, from one thread, through the native core: what raw_queue.py runs.
 *
 *   raw_queue PATH raw|polled|interrupt|block BYTES DEPTH BATCH SECONDS     reads a second
 *   raw_queue PATH raw|polled|interrupt|block BYTES DEPTH BATCH count       clock ticks of the processor for each read
 *
 * PATH is a namespace's character device, or its block device for "block" (O_DIRECT). All paths use a registered file, a
 * registered buffer, 128-byte submission and 32-byte completion entries, and never more than BATCH entries in a submission or
 * completions in a reap.
 *
 * "count" is for an emulator whose clock counts instructions (QEMU's -icount shift=0). It tells what a read costs the processor
 * apart from the waiting: DEPTH reads are submitted, then a loop of known length runs until the device has long completed them,
 * then they are reaped. The same round without reads is subtracted. What an interrupt does falls into that loop and counts.
 */
#define _GNU_SOURCE
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/fs.h>
#include <linux/nvme_ioctl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define MAX_DEPTH 256
#define BUFFERS	  64 /* of 4096 bytes: what a device of 127 segments takes as one registered buffer before Linux 6.12 */
#define ROUNDS	  12
/* Some 10 million instructions, 10 ms of the emulated clock: more than the emulated device needs for 128 reads. */
#define SPINS	 2000000L
#define NS_BYTES (64L << 20)

enum path { RAW, POLLED, INTERRUPT, BLOCK, PATHS };
static const char *const names[PATHS] = { "raw", "polled", "interrupt", "block" };

static enum path path;
static unsigned len, depth, batch, nsid, block = 512;
static struct aionvme_ring *ring;
static int eventfd_ = -1;
static char *data;
static struct aionvme_sqe staged[MAX_DEPTH];
static struct aionvme_cqe reaped[MAX_DEPTH];
static uint64_t seed = 1;

#define MUST(condition)                                                                                                             \
	do {                                                                                                                        \
		if (!(condition)) {                                                                                                 \
			fprintf(stderr, "%s:%d: %s: %m\n", __FILE__, __LINE__, #condition);                                         \
			exit(1);                                                                                                    \
		}                                                                                                                   \
	} while (0)

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static uint64_t random_offset(void)
{
	/* xorshift64 */
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % (NS_BYTES / len) * len;
}

/* One random read into its own part of the buffer. */
static void fill(struct aionvme_sqe *entry, unsigned slot)
{
	struct io_uring_sqe *sqe = (struct io_uring_sqe *)entry;
	uint64_t offset = random_offset();

	memset(entry, 0, sizeof(*entry));
	sqe->fd = 0;
	sqe->flags = IOSQE_FIXED_FILE;
	sqe->user_data = slot;
	if (path == BLOCK) {
		sqe->opcode = IORING_OP_READ_FIXED;
		sqe->off = offset;
		sqe->addr = (uintptr_t)data + (uint64_t)(slot % BUFFERS) * len;
		sqe->len = len;
	} else {
		struct nvme_uring_cmd *cmd = (struct nvme_uring_cmd *)(entry->bytes + 48);

		sqe->opcode = IORING_OP_URING_CMD;
		sqe->off = NVME_URING_CMD_IO;
		sqe->rw_flags = IORING_URING_CMD_FIXED | (path == RAW ? AIONVME_URING_CMD_DIRECT : 0);
		cmd->opcode = 2;
		cmd->nsid = nsid;
		cmd->addr = (uintptr_t)data + (uint64_t)(slot % BUFFERS) * len;
		cmd->data_len = len;
		cmd->cdw10 = offset / block;
		cmd->cdw12 = len / block - 1;
	}
}

static void check(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (reaped[i].res != (path == BLOCK ? (int)len : 0)) {
			fprintf(stderr, "%s: a read gave %d\n", names[path], reaped[i].res);
			exit(1);
		}
}

/* Submit up to n of what is staged, in batches; reap up to batch. Returns how many were reaped. */
static unsigned tick(const struct aionvme_sqe *sqes, unsigned n)
{
	unsigned accepted;
	int ret = aionvme_ring_tick(ring, sqes, n, &accepted, reaped, batch);

	errno = ret < 0 ? -ret : 0;
	MUST(ret >= 0 && accepted == n);
	check(ret);
	return ret;
}

static void open_ring(const char *device)
{
	int fd = open(device, O_RDWR | O_CLOEXEC | (path == BLOCK ? O_DIRECT : 0));
	const size_t size = (size_t)BUFFERS * 4096;

	MUST(fd >= 0);
	if (path == BLOCK) {
		int logical;

		MUST(!ioctl(fd, BLKSSZGET, &logical));
		block = logical;
	} else {
		nsid = ioctl(fd, NVME_IOCTL_ID);
		MUST((int)nsid > 0);
	}
	errno = -aionvme_ring_open(MAX_DEPTH, 2 * MAX_DEPTH, path == RAW || path == POLLED, &ring);
	MUST(!errno);
	errno = -aionvme_ring_register_files(ring, &fd, 1);
	MUST(!errno);
	errno = -aionvme_ring_reserve_buffers(ring, 1);
	MUST(!errno);
	MUST(!posix_memalign((void **)&data, 4096, size));
	memset(data, 1, size);
	errno = -aionvme_ring_set_buffer(ring, 0, data, size);
	MUST(!errno);
	if (path == RAW) {
		errno = -aionvme_ring_register_queue(ring, 0);
		MUST(!errno);
	} else if (path != POLLED) {
		eventfd_ = aionvme_ring_register_eventfd(ring);
		MUST(eventfd_ >= 0);
	}
}

/* Sleep until something completes, where the path can. */
static void wait_for_interrupt(void)
{
	struct pollfd pollfd = { .fd = eventfd_, .events = POLLIN };

	if (eventfd_ < 0 || aionvme_ring_arm(ring))
		return;
	poll(&pollfd, 1, 1000);
	aionvme_ring_disarm(ring);
}

static double reads_a_second(double seconds)
{
	const double start = now();
	unsigned long reads = 0;
	unsigned in_flight = 0, waiting = depth;
	double end;

	for (unsigned i = 0; i < depth; i++)
		fill(&staged[i], i);
	do {
		unsigned n = waiting < batch ? waiting : batch, got;

		got = tick(staged + waiting - n, n);
		waiting -= n;
		in_flight += n - got;
		for (unsigned i = 0; i < got; i++)
			fill(&staged[waiting + i], reaped[i].user_data);
		waiting += got;
		reads += got;
		if (!got && !waiting)
			wait_for_interrupt();
		end = now();
	} while (end - start < seconds);
	while (in_flight) {
		unsigned got = tick(NULL, 0);

		in_flight -= got;
		if (!got)
			wait_for_interrupt();
	}
	return reads / (end - start);
}

/* Ticks of one round of n reads, or 0 where the device was too slow for it. */
static uint64_t round_of(unsigned n)
{
	const uint64_t start = __rdtsc();
	unsigned done = 0;
	uint64_t ticks;

	for (unsigned i = 0; i < n; i += batch)
		done += tick(staged + i, n - i < batch ? n - i : batch);
	for (volatile long i = 0; i < SPINS; i++)
		;
	for (unsigned i = done; i < n; i += batch)
		done += tick(NULL, 0);
	ticks = __rdtsc() - start;
	if (done == n)
		return ticks;
	while (done < n)
		done += tick(NULL, 0);
	return 0;
}

static int by_size(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static double ticks_for_a_read(void)
{
	uint64_t with[ROUNDS], without[ROUNDS];
	unsigned rounds = 0;

	for (unsigned tries = 0; rounds < ROUNDS && tries < 4 * ROUNDS; tries++) {
		for (unsigned i = 0; i < depth; i++)
			fill(&staged[i], i);
		with[rounds] = round_of(depth);
		without[rounds] = round_of(0);
		/* The first rounds find caches cold: page tables, slabs, emulated code. */
		if (tries > 3 && with[rounds])
			rounds++;
	}
	MUST(rounds == ROUNDS);
	qsort(with, ROUNDS, sizeof(*with), by_size);
	qsort(without, ROUNDS, sizeof(*without), by_size);
	return ((double)with[ROUNDS / 2] - without[ROUNDS / 2]) / depth;
}

int main(int argc, char **argv)
{
	MUST(argc == 7);
	while (path < PATHS && strcmp(argv[2], names[path]))
		path++;
	len = atoi(argv[3]);
	depth = atoi(argv[4]);
	batch = atoi(argv[5]);
	MUST(path < PATHS && (len == 512 || len == 4096) && depth <= MAX_DEPTH && batch && batch <= MAX_DEPTH);
	open_ring(argv[1]);
	printf("%.1f\n", strcmp(argv[6], "count") ? reads_a_second(atof(argv[6])) : ticks_for_a_read());
	aionvme_ring_close(ring);
	return 0;
}
