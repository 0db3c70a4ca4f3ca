// SPDX-License-Identifier: MIT
/* The native core on real rings: life, batches, registered things, errors. Signals and sleeping: core_wakeups.c. */
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>

#include "check.h"

/* Opening and closing rings, with everything that can be registered, leaves no file and no mapping behind. */
static void open_close(void)
{
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	static char memory[8192] __attribute__((aligned(4096)));
	const unsigned files = open_files();

	for (int i = 0; i < 1000; i++) {
		/* Two pages of entries and more: liburing before 2.9 unmaps only the first half of them. */
		struct aionvme_ring *ring = open_ring(64, 128, i % 2);

		CHECK_EQ(aionvme_ring_register_files(ring, &null, 1), 0);
		CHECK_EQ(aionvme_ring_reserve_buffers(ring, 16), 0);
		CHECK_EQ(aionvme_ring_set_buffer(ring, 3, memory, sizeof(memory)), 0);
		CHECK(aionvme_ring_register_eventfd(ring) >= 0);
		CHECK(ring_mappings(0, NULL) > 0);
		CHECK_EQ(carry_out(ring, nop(i)).user_data, i);
		aionvme_ring_close(ring);
		CHECK_EQ(ring_mappings(0, NULL), 0);
		CHECK_EQ(open_files(), files);
	}
	close(null);
}

/* A batch larger than the submission queue is taken in part, and the rest when offered again; a size is rounded up. */
static void larger_than_ring(void)
{
	struct aionvme_ring *ring = open_ring(5, 16, false);
	struct aionvme_sqe sqes[20];
	struct aionvme_cqe cqes[20];
	unsigned seen = 0, accepted, done = 0;

	for (unsigned i = 0; i < COUNT(sqes); i++)
		sqes[i] = nop(i);
	for (unsigned offered = 0; offered < COUNT(sqes); offered += accepted) {
		int n = aionvme_ring_tick(ring, sqes + offered, COUNT(sqes) - offered, &accepted, cqes, COUNT(cqes));

		CHECK(n >= 0);
		CHECK_EQ(accepted, offered < 16 ? 8 : 4);
		CHECK_EQ(aionvme_ring_queued(ring), 0);
		for (int i = 0; i < n; i++)
			seen |= 1U << cqes[i].user_data;
		done += n;
	}
	CHECK_EQ(done, 20);
	CHECK_EQ(seen, (1U << 20) - 1);
	aionvme_ring_close(ring);
}

/* One tick gives as many completions as were asked for; the others wait for the next, in a polled ring as well. */
static void reap_bounded(void)
{
	static const int expected[] = { 5, 5, 5, 1, 0 };

	for (int iopoll = 0; iopoll < 2; iopoll++) {
		struct aionvme_ring *ring = open_ring(16, 32, iopoll);
		struct aionvme_sqe sqes[16];
		struct aionvme_cqe cqes[6];
		unsigned accepted;

		CHECK_EQ(!!(aionvme_ring_flags(ring) & IORING_SETUP_IOPOLL), iopoll);
		for (unsigned i = 0; i < 16; i++)
			sqes[i] = nop(i);
		memset(&cqes[5], 0x5a, sizeof(cqes[5]));
		for (unsigned i = 0; i < COUNT(expected); i++) {
			CHECK_EQ(aionvme_ring_tick(ring, sqes, i ? 0 : 16, &accepted, cqes, 5), expected[i]);
			CHECK_EQ(accepted, i ? 0 : 16);
			for (int j = 0; j < expected[i]; j++)
				CHECK_EQ(cqes[j].user_data, 5 * i + j);
		}
		CHECK_EQ(cqes[5].user_data, 0x5a5a5a5a5a5a5a5a);
		aionvme_ring_close(ring);
	}
}

/* Completions that found the completion queue full are kept by the kernel, and all of them arrive. */
static void completion_overflow(void)
{
	for (int iopoll = 0; iopoll < 2; iopoll++) {
		struct aionvme_ring *ring = open_ring(4, 4, iopoll);
		unsigned seen[400] = { 0 }, offered = 0, done = 0;

		while (done < COUNT(seen)) {
			struct aionvme_sqe sqes[4];
			struct aionvme_cqe cqe;
			unsigned n = 0, accepted;
			int ret;

			while (n < 4 && offered + n < COUNT(seen)) {
				sqes[n] = nop(offered + n);
				n++;
			}
			ret = aionvme_ring_tick(ring, sqes, n, &accepted, &cqe, 1); /* four more, and one less */
			CHECK(ret >= 0);
			offered += accepted;
			if (ret)
				seen[cqe.user_data]++;
			done += ret;
			CHECK(offered < COUNT(seen) || ret == 1);
		}
		for (unsigned i = 0; i < COUNT(seen); i++)
			CHECK_EQ(seen[i], 1);
		CHECK_EQ(aionvme_ring_overflow(ring), 0);
		aionvme_ring_close(ring);
	}
}

/* Once the kernel's count of dropped completions is not 0, ticks fail with EBADR: a command waits for a lost completion. */
static void lost_completion(void)
{
	for (int iopoll = 0; iopoll < 2; iopoll++) {
		struct io_uring_params params = { .flags = IORING_SETUP_SQE128 | IORING_SETUP_CQE32 };
		int probe = io_uring_setup(4, &params); /* only for where the count is within the mapping */
		struct aionvme_ring *ring = open_ring(4, 8, iopoll);
		struct aionvme_sqe sqe = nop(7);
		struct aionvme_cqe cqe;
		void *rings = NULL;
		unsigned accepted;

		CHECK(probe >= 0);
		close(probe);
		CHECK_EQ(aionvme_ring_tick(ring, NULL, 0, &accepted, &cqe, 1), 0);
		ring_mappings(IORING_OFF_SQ_RING, &rings);
		CHECK(rings);
		*(volatile unsigned *)((char *)rings + params.cq_off.overflow) = 1;
		CHECK_EQ(aionvme_ring_overflow(ring), 1);
		CHECK_EQ(aionvme_ring_tick(ring, &sqe, 1, &accepted, &cqe, 1), 1); /* what did complete still arrives */
		CHECK_EQ(cqe.user_data, 7);
		for (int i = 0; i < 2; i++)
			CHECK_EQ(aionvme_ring_tick(ring, NULL, 0, &accepted, &cqe, 1), -EBADR);
		aionvme_ring_close(ring);
	}
}

/* An entry is what the caller gave to the last of its 128 bytes, whatever its slot held before. */
static void stale_slots(void)
{
	struct aionvme_ring *ring = open_ring(4, 8, false);
	struct aionvme_sqe old = nop(1), fresh = nop(2);
	uint8_t *slots = NULL;

	memset(old.bytes + 48, 0xa5, sizeof(old.bytes) - 48); /* the 80 command bytes, which a NOP does not look at */
	ring_mappings(IORING_OFF_SQES, (void **)&slots);
	CHECK(slots);
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(carry_out(ring, old).res, 0);
		CHECK(!memcmp(slots + i * 128, &old, 128));
	}
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(carry_out(ring, fresh).res, 0);
		CHECK(!memcmp(slots + i * 128, &fresh, 128));
	}
	aionvme_ring_close(ring);
}

static void *tick_elsewhere(void *ring)
{
	struct aionvme_sqe sqe = nop(11);
	struct aionvme_cqe cqe;
	unsigned accepted;

	return (void *)(intptr_t)aionvme_ring_tick(ring, &sqe, 1, &accepted, &cqe, 1);
}

/* With DEFER_TASKRUN another thread gets EEXIST, and its entry stays queued for the ring's own thread. */
static void other_thread(void)
{
	for (int iopoll = 0; iopoll < 2; iopoll++) {
		struct aionvme_ring *ring = open_ring(4, 8, iopoll);
		struct aionvme_cqe cqe;
		unsigned accepted;
		pthread_t thread;
		void *ret;

		SKIP_UNLESS(aionvme_ring_flags(ring) & IORING_SETUP_DEFER_TASKRUN, "DEFER_TASKRUN: Linux 6.1");
		CHECK_EQ(pthread_create(&thread, NULL, tick_elsewhere, ring), 0);
		CHECK_EQ(pthread_join(thread, &ret), 0);
		CHECK_EQ((intptr_t)ret, -EEXIST);
		CHECK_EQ(aionvme_ring_queued(ring), 1);
		CHECK_EQ(aionvme_ring_tick(ring, NULL, 0, &accepted, &cqe, 1), 1);
		CHECK_EQ(cqe.user_data, 11);
		aionvme_ring_close(ring);
	}
}

static int read_fixed(struct aionvme_ring *ring, int zero, void *addr, unsigned len, unsigned buf_index)
{
	return carry_out(ring, entry(&(struct io_uring_sqe){ .opcode = IORING_OP_READ_FIXED,
							     .fd = zero,
							     .addr = (uintptr_t)addr,
							     .len = len,
							     .buf_index = buf_index }))
		.res;
}

/* Registered buffers: usable at their index and within their bounds while registered, up to the kernel's limits. */
static void buffers(void)
{
	struct aionvme_ring *ring = open_ring(4, 8, false);
	const int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	static char memory[8192] __attribute__((aligned(4096)));
	void *gib = mmap(NULL, (1UL << 30) + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK_EQ(aionvme_ring_set_buffer(ring, 0, memory, 4096), -ENXIO); /* no table yet */
	CHECK_EQ(aionvme_ring_reserve_buffers(ring, 0), -EINVAL);
	CHECK_EQ(aionvme_ring_reserve_buffers(ring, 16385), -EINVAL);
	CHECK_EQ(aionvme_ring_reserve_buffers(ring, 16384), 0);
	CHECK_EQ(aionvme_ring_reserve_buffers(ring, 16384), -EBUSY);
	CHECK_EQ(aionvme_ring_set_buffer(ring, 16384, memory, 4096), -EINVAL);
	CHECK_EQ(aionvme_ring_set_buffer(ring, 0, NULL, 4096), -EFAULT);
	CHECK_EQ(aionvme_ring_set_buffer(ring, 0, gib, (1UL << 30) + 1), -EFAULT);
	CHECK_EQ(aionvme_ring_set_buffer(ring, 0, gib, 4096), -EFAULT); /* not accessible */

	CHECK_EQ(aionvme_ring_set_buffer(ring, 16383, memory, 4096), 0);
	memset(memory, 1, sizeof(memory));
	CHECK_EQ(read_fixed(ring, zero, memory + 96, 4000, 16383), 4000);
	CHECK(memory[95] == 1 && memory[96] == 0 && memory[4095] == 0 && memory[4096] == 1);
	CHECK_EQ(read_fixed(ring, zero, memory + 96, 4001, 16383), -EFAULT);
	CHECK_EQ(read_fixed(ring, zero, memory, 4096, 0), -EFAULT);
	CHECK_EQ(aionvme_ring_set_buffer(ring, 16383, memory + 4096, 4096), 0); /* replaced */
	CHECK_EQ(read_fixed(ring, zero, memory, 4096, 16383), -EFAULT);
	CHECK_EQ(read_fixed(ring, zero, memory + 4096, 4096, 16383), 4096);
	for (int i = 0; i < 2; i++) { /* taking out what is not there does no harm */
		CHECK_EQ(aionvme_ring_set_buffer(ring, 16383, memory, 0), 0);
		CHECK_EQ(read_fixed(ring, zero, memory + 4096, 4096, 16383), -EFAULT);
	}
	aionvme_ring_close(ring);
	munmap(gib, (1UL << 30) + 4096);
	close(zero);
}

/* Sizes the kernel does not have are refused with EINVAL, store no ring and leave no file open. */
static void open_errors(void)
{
	const unsigned sizes[][2] = { { 0, 8 }, { 32769, 65536 }, { 8, 4 }, { 8, 65537 } };
	const unsigned files = open_files();

	for (unsigned i = 0; i < COUNT(sizes); i++) {
		struct aionvme_ring *ring = NULL;

		CHECK_EQ(aionvme_ring_open(sizes[i][0], sizes[i][1], false, &ring), -EINVAL);
		CHECK(!ring);
	}
	aionvme_ring_close(open_ring(32768, 65536, false));
	CHECK_EQ(open_files(), files);
	CHECK_EQ(ring_mappings(0, NULL), 0);
}

/* A uring_cmd on a registered /dev/null makes the round trip (6.1); a file that takes none gives EOPNOTSUPP; no file, EBADF. */
static void uring_cmd(void)
{
	const int fds[] = { open("/dev/null", O_RDWR | O_CLOEXEC), open("/dev/zero", O_RDWR | O_CLOEXEC), -1 };
	const int expected[] = { 0, -EOPNOTSUPP, -EBADF, -EBADF };
	struct aionvme_ring *ring = open_ring(4, 8, false);

	CHECK_EQ(aionvme_ring_register_files(ring, (const int[]){ 1 << 20 }, 1), -EBADF);
	CHECK_EQ(aionvme_ring_register_files(ring, fds, 3), 0);
	CHECK_EQ(aionvme_ring_register_files(ring, fds, 3), -EBUSY);
	for (unsigned i = 0; i < COUNT(expected); i++) {
		struct aionvme_cqe cqe = carry_out(ring, entry(&(struct io_uring_sqe){ .opcode = IORING_OP_URING_CMD,
										       .flags = IOSQE_FIXED_FILE,
										       .fd = i,
										       .off = 1, /* cmd_op */
										       .user_data = ~0ULL - i }));

		SKIP_UNLESS(i || cqe.res != -EOPNOTSUPP, "uring_cmd on /dev/null: Linux 6.1");
		CHECK_EQ(cqe.user_data, ~0ULL - i);
		CHECK_EQ(cqe.res, expected[i]);
		CHECK_EQ(cqe.big_cqe[0], 0);
	}
	aionvme_ring_close(ring);
	close(fds[0]);
	close(fds[1]);
}

/*
 * Asking for raw queues harms nothing on a kernel that has none: both calls are refused, and the ring works. On one that has them,
 * /dev/null is refused as a device, and giving back what one has not is not.
 */
static void no_queue(void)
{
	for (int iopoll = 0; iopoll < 2; iopoll++) {
		struct aionvme_ring *ring = open_ring(4, 8, iopoll);
		const int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		const int known = aionvme_ring_unregister_queue(ring);

		CHECK(known == 0 || known == -EINVAL);
		CHECK_EQ(aionvme_ring_register_queue(ring, 0), known ? -EINVAL : iopoll ? -EBADF : -EINVAL);
		CHECK_EQ(aionvme_ring_register_files(ring, &fd, 1), 0);
		CHECK_EQ(aionvme_ring_register_queue(ring, 0), -EINVAL);
		CHECK_EQ(aionvme_ring_unregister_queue(ring), known);
		CHECK_EQ(carry_out(ring, entry(&(struct io_uring_sqe){ .opcode = IORING_OP_NOP, .user_data = 7 })).user_data, 7);
		aionvme_ring_close(ring);
		close(fd);
	}
}

/* A batch of NOPs of which each has a result of its own, if the kernel has such NOPs (6.18); otherwise all have 0. */
struct nops {
	struct aionvme_batch batch;
	struct aionvme_column columns[3];
	struct aionvme_completion *completions;
	uint64_t *results;
	uint32_t *res;
	bool injects;
};

static struct nops nops_of(unsigned n)
{
	struct aionvme_ring *ring = open_ring(1, 2, false);
	struct io_uring_sqe probe = { .opcode = IORING_OP_NOP, .rw_flags = NOP_INJECT_RESULT | NOP_CQE32 };
	struct nops nops = { .injects = carry_out(ring, entry(&probe)).res == 0 };

	aionvme_ring_close(ring);
	if (!nops.injects)
		probe.rw_flags = 0;
	nops.completions = calloc(n, sizeof(*nops.completions));
	nops.results = calloc(2 * n, sizeof(*nops.results));
	nops.res = calloc(n, sizeof(*nops.res));
	for (unsigned i = 0; i < n; i++) {
		nops.results[2 * i] = 1000000007ULL * i << 20;
		nops.res[i] = i % 3 == 0 ? 0 : i % 3 == 1 ? i % 0x7fff : -(i % 133);
	}
	nops.batch = (struct aionvme_batch){ .entry = entry(&probe), .n_columns = nops.injects ? 2 : 0, .n = n };
	return nops;
}

/* Pointers into itself: to be called where the batch is going to stay. */
static void settle(struct nops *nops)
{
	nops->columns[0] = (struct aionvme_column){
		offsetof(struct io_uring_sqe, off), 8, 2 * sizeof(*nops->results), (void *)nops->results };
	nops->columns[1] = (struct aionvme_column){ offsetof(struct io_uring_sqe, len), 4, 4, (void *)nops->res };
	nops->batch.columns = nops->columns;
	nops->batch.completions = nops->completions;
}

static void check_nops(const struct nops *nops, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const int res = nops->injects ? (int)nops->res[i] : 0;

		CHECK_EQ(nops->completions[i].status, res > 0 ? res : 0);
		CHECK_EQ(nops->completions[i].error, res < 0 ? -res : 0);
		CHECK_EQ(nops->completions[i].result, nops->injects ? nops->results[2 * i] : 0);
		CHECK(nops->completions[i].latency_ns < 60000000000ULL);
	}
}

static void free_nops(struct nops *nops)
{
	free(nops->completions);
	free(nops->results);
	free(nops->res);
}

/* Batches longer than the ring go through it, several at a time, with single entries beside them; each outcome in its place. */
static void batches(void)
{
	static const unsigned sizes[] = { 1, 7, 8, 9, 1000, 20000 };

	for (int iopoll = 0; iopoll < 2; iopoll++) {
		struct aionvme_ring *ring = open_ring(8, 16, iopoll);
		struct nops all[COUNT(sizes)];
		unsigned single = 0, accepted, left = 0;

		for (unsigned k = 0; k < COUNT(sizes); k++) {
			all[k] = nops_of(sizes[k]);
			settle(&all[k]);
			CHECK_EQ(aionvme_ring_add_batch(ring, &all[k].batch), 0);
		}
		CHECK_EQ(aionvme_ring_queued(ring), 8);
		do {
			const struct aionvme_sqe sqe = nop(single);
			struct aionvme_cqe cqe;

			CHECK_EQ(aionvme_ring_tick(ring, &sqe, 1, &accepted, &cqe, 1), 1);
			CHECK_EQ(accepted, 1);
			CHECK_EQ(cqe.user_data, single++);
			left = 0;
			for (unsigned k = 0; k < COUNT(sizes); k++)
				left += all[k].batch.n - all[k].batch.completed;
		} while (left);
		for (unsigned k = 0; k < COUNT(sizes); k++) {
			CHECK_EQ(all[k].batch.submitted, sizes[k]);
			check_nops(&all[k], sizes[k]);
			free_nops(&all[k]);
		}
		CHECK_EQ(aionvme_ring_queued(ring), 0);
		aionvme_ring_close(ring);
	}
}

/* There are 64 slots for batches: one more is refused until one ends. A stopped batch ends with what was submitted of it. */
static void batch_slots(void)
{
	struct aionvme_ring *ring = open_ring(4, 8, false);
	struct nops nops[65];
	struct aionvme_cqe cqe;
	unsigned accepted, done = 0;

	for (unsigned k = 0; k < COUNT(nops); k++) {
		nops[k] = nops_of(100);
		settle(&nops[k]);
		CHECK_EQ(aionvme_ring_add_batch(ring, &nops[k].batch), k < 64 ? 0 : -EBUSY);
	}
	/* Nothing of it was submitted: it is gone at once, and its slot free. */
	CHECK_EQ(aionvme_ring_stop_batch(ring, &nops[0].batch), 1);
	CHECK_EQ(nops[0].batch.n, 0);
	CHECK_EQ(aionvme_ring_add_batch(ring, &nops[64].batch), 0);
	while (!done) {
		CHECK_EQ(aionvme_ring_tick(ring, NULL, 0, &accepted, &cqe, 1), 0);
		for (unsigned k = 1; k < COUNT(nops); k++)
			done += nops[k].batch.completed == nops[k].batch.n;
	}
	for (unsigned k = 1; k < COUNT(nops); k++)
		CHECK_EQ(aionvme_ring_stop_batch(ring, &nops[k].batch), 1); /* NOPs leave nothing in flight */
	for (unsigned k = 1; k < COUNT(nops); k++) {
		CHECK_EQ(nops[k].batch.completed, nops[k].batch.n);
		check_nops(&nops[k], nops[k].batch.n);
	}
	for (unsigned k = 0; k < COUNT(nops); k++)
		free_nops(&nops[k]);
	CHECK_EQ(aionvme_ring_queued(ring), 0);
	aionvme_ring_close(ring);
}

/* A batch in flight is not hurried: it fills the ring up to its depth, waits, and ends when it is let go on, stopped or not. */
static void batch_in_flight(void)
{
	struct aionvme_ring *ring = open_ring(4, 8, false);
	struct aionvme_completion completions[10];
	int pipes[2];
	char byte;
	struct aionvme_batch batch = { .n = 10, .completions = completions };
	struct aionvme_cqe cqe;
	unsigned accepted, read = 0;

	CHECK_EQ(pipe(pipes), 0);
	batch.entry = held(0, pipes[0], &byte);
	CHECK_EQ(aionvme_ring_add_batch(ring, &batch), 0);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(aionvme_ring_tick(ring, NULL, 0, &accepted, &cqe, 1), 0);
	CHECK_EQ(batch.submitted, 4);
	CHECK_EQ(batch.completed, 0);
	CHECK_EQ(aionvme_ring_queued(ring), 0);
	CHECK_EQ(write(pipes[1], "ab", 2), 2);
	while (batch.completed < 2)
		CHECK_EQ(aionvme_ring_tick(ring, NULL, 0, &accepted, &cqe, 1), 0);
	CHECK(batch.submitted <= 6);
	CHECK_EQ(aionvme_ring_stop_batch(ring, &batch), 0);
	CHECK_EQ(batch.n, batch.submitted);
	close(pipes[1]);
	while (batch.completed < batch.n)
		CHECK_EQ(aionvme_ring_tick(ring, NULL, 0, &accepted, &cqe, 1), 0);
	CHECK_EQ(aionvme_ring_stop_batch(ring, &batch), 1);
	for (unsigned i = 0; i < batch.n; i++) {
		read += completions[i].status;
		CHECK(completions[i].latency_ns > 0);
	}
	CHECK_EQ(read, 2);
	aionvme_ring_close(ring);
	close(pipes[0]);
}

static const struct test_case cases[] = {
	{ "open_close", open_close },		  { "larger_than_ring", larger_than_ring },
	{ "reap_bounded", reap_bounded },	  { "completion_overflow", completion_overflow },
	{ "lost_completion", lost_completion },	  { "stale_slots", stale_slots },
	{ "other_thread", other_thread },	  { "buffers", buffers },
	{ "open_errors", open_errors },		  { "uring_cmd", uring_cmd },
	{ "no_queue", no_queue },		  { "batches", batches },
	{ "batch_slots", batch_slots },		  { "batch_in_flight", batch_in_flight },
};

int main(int argc, char **argv)
{
	return run_cases(argc, argv, cases, COUNT(cases));
}
