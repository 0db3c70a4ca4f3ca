// SPDX-License-Identifier: GPL-2.0
/*
 * Proves the raw queues of this kernel series, on the devices that the test bed
 * gives the guest and with nvme.raw_queues=2:
 *
 *   ng0n1, ng0n3   512-byte and 4096-byte blocks
 *   ng0n2          zoned, 4096-byte blocks, zones of 1024 blocks
 *   ng0n4          answers four commands a second: commands stay in flight
 *   ng0n5          has protection information in separate metadata
 *   ng0n6          has separate metadata of 8 bytes, and is slow
 *   ng0n7          has 8 bytes of metadata in extended blocks
 *   ng1n1          another controller, which gets removed in the end
 *
 * Arguments: the tests to run, all by default. Exit code 0 if all passed.
 * Nothing here uses liburing: what is tested is what the kernel does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <linux/io_uring.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define REGISTER_QUEUE	 26
#define UNREGISTER_QUEUE 27
#define FIXED		 (1u << 0)
#define DIRECT		 (1u << 1)
#define CMD_IO		 0xC0484E80u
#define CMD_IO_VEC	 0xC0484E81u
#define OP_URING_CMD	 46

enum { FLUSH = 0, WRITE = 1, READ = 2, COMPARE = 5, WRITE_ZEROES = 8, DATASET = 9,
       ZONE_SEND = 0x79, ZONE_RECEIVE = 0x7a, ZONE_APPEND = 0x7d };

#define KIB	 1024u
#define MDTS	 (512 * KIB)	/* as the test bed has it */
#define BUF_SIZE (2 * 1024 * KIB)

struct nvme_cmd {
	uint8_t opcode, flags;
	uint16_t rsvd1;
	uint32_t nsid, cdw2, cdw3;
	uint64_t metadata, addr;
	uint32_t metadata_len, data_len, cdw10, cdw11, cdw12, cdw13, cdw14,
		cdw15, timeout_ms, rsvd2;
};
struct nvme_ioctl64 {
	struct nvme_cmd cmd;
	uint64_t result;
};
_Static_assert(sizeof(struct nvme_cmd) == 72, "as in linux/nvme_ioctl.h");
_Static_assert(sizeof(struct nvme_ioctl64) == 80, "as in linux/nvme_ioctl.h");
#define IOCTL_IO64 _IOWR('N', 0x48, struct nvme_ioctl64)

static const char *current;
static int failures;

static void fail(int line, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	printf("  %s, line %d: ", current, line);
	vprintf(format, arguments);
	printf("\n");
	va_end(arguments);
	fflush(stdout);
	failures++;
}

#define EXPECT(got, wanted)                                                   \
	do {                                                                  \
		long long got_ = (got), wanted_ = (wanted);                   \
		if (got_ != wanted_)                                          \
			fail(__LINE__, "%s is %lld (%#llx), not %lld", #got,  \
			     got_, got_, wanted_);                            \
	} while (0)
#define CHECK(condition)                                                      \
	do {                                                                  \
		if (!(condition))                                             \
			fail(__LINE__, "not so: %s", #condition);             \
	} while (0)
#define MUST(condition)                                                       \
	do {                                                                  \
		if (!(condition)) {                                           \
			printf("  line %d: %s: %m\n", __LINE__, #condition);  \
			exit(2);                                              \
		}                                                             \
	} while (0)

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

/*
 * Namespaces.
 */

struct ns {
	const char *path;
	int nsid, lba, fd;
};
static struct ns n1 = { "/dev/ng0n1", 1, 512, -1 };
static struct ns n2 = { "/dev/ng0n3", 3, 4096, -1 };
static struct ns slow = { "/dev/ng0n4", 4, 512, -1 };
static struct ns protected = { "/dev/ng0n5", 5, 512, -1 };
static struct ns zoned = { "/dev/ng0n2", 2, 4096, -1 };
static struct ns slow_meta = { "/dev/ng0n6", 6, 512, -1 };
static struct ns extended = { "/dev/ng0n7", 7, 512, -1 };
static struct ns other = { "/dev/ng1n1", 1, 512, -1 };
static unsigned limit = MDTS; /* less with swiotlb=force */
#define BLOCKS(ns) (64u * 1024 * KIB / (ns)->lba)

/* The reference: the ioctl, with a bounce buffer of its own. */
static void sync_io(struct ns *ns, int opcode, uint64_t slba, void *data, unsigned len)
{
	static __thread void *bounce;
	struct nvme_ioctl64 c = { .cmd = { .opcode = opcode, .nsid = ns->nsid } };

	if (!bounce)
		MUST(!posix_memalign(&bounce, 4096, MDTS));
	if (opcode == WRITE)
		memcpy(bounce, data, len);
	c.cmd.addr = (uintptr_t)bounce;
	c.cmd.data_len = len;
	c.cmd.cdw10 = slba;
	c.cmd.cdw11 = slba >> 32;
	c.cmd.cdw12 = len / ns->lba - 1;
	MUST(ioctl(ns->fd, IOCTL_IO64, &c) == 0);
	if (opcode == READ)
		memcpy(data, bounce, len);
}

/*
 * Rings.
 */

struct ring {
	int fd;
	unsigned entries, flags, *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	uint8_t *sqes, *cqes;
	void *sq_map, *sqe_map;
	size_t sq_size, sqe_size;
	unsigned staged;
	uint8_t *buf; /* registered, as index 0 */
	/* by user_data, as they come */
	int res[4096];
	uint64_t result[4096];
	unsigned char seen[4096];
	unsigned got;
};

#define POLLED (IORING_SETUP_IOPOLL | IORING_SETUP_SQE128 | IORING_SETUP_CQE32)

static int ring_register(struct ring *r, unsigned op, const void *arg, unsigned nr)
{
	int ret = syscall(SYS_io_uring_register, r->fd, op, arg, nr);

	return ret < 0 ? -errno : ret;
}

static int ring_queue(struct ring *r, int32_t index)
{
	return ring_register(r, REGISTER_QUEUE, &index, 1);
}

static struct ring *ring_new(unsigned entries, unsigned flags)
{
	struct io_uring_params p = { .flags = flags };
	struct ring *r = calloc(1, sizeof(*r));
	struct iovec iov;
	int fds[] = { n1.fd, -1, other.fd, n2.fd, slow.fd };

	r->fd = syscall(SYS_io_uring_setup, entries, &p);
	MUST(r->fd >= 0);
	r->entries = p.sq_entries;
	r->flags = flags;
	r->sq_size = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe) *
					(flags & IORING_SETUP_CQE32 ? 2 : 1);
	if (r->sq_size < p.sq_off.array + p.sq_entries * 4)
		r->sq_size = p.sq_off.array + p.sq_entries * 4;
	r->sq_map = mmap(0, r->sq_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd,
			 IORING_OFF_SQ_RING);
	r->sqe_size = p.sq_entries * 128;
	r->sqe_map = mmap(0, r->sqe_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd,
			  IORING_OFF_SQES);
	MUST(r->sq_map != MAP_FAILED && r->sqe_map != MAP_FAILED);
	r->sqes = r->sqe_map;
	uint8_t *map = r->sq_map;
	r->sq_tail = (unsigned *)(map + p.sq_off.tail);
	r->sq_mask = (unsigned *)(map + p.sq_off.ring_mask);
	r->sq_array = (unsigned *)(map + p.sq_off.array);
	r->cq_head = (unsigned *)(map + p.cq_off.head);
	r->cq_tail = (unsigned *)(map + p.cq_off.tail);
	r->cq_mask = (unsigned *)(map + p.cq_off.ring_mask);
	r->cqes = map + p.cq_off.cqes;

	r->buf = mmap(0, BUF_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(r->buf != MAP_FAILED);
	/* touched out of order, so that neighbours are not neighbours in memory */
	for (unsigned i = 0; i < BUF_SIZE / 4096; i++)
		r->buf[(i * 37 % (BUF_SIZE / 4096)) * 4096ul] = 1;
	iov = (struct iovec){ r->buf, BUF_SIZE };
	EXPECT(ring_register(r, IORING_REGISTER_BUFFERS, &iov, 1), 0);
	EXPECT(ring_register(r, IORING_REGISTER_FILES, fds, 5), 0);
	return r;
}

static void ring_free(struct ring *r)
{
	munmap(r->sq_map, r->sq_size);
	munmap(r->sqe_map, r->sqe_size);
	close(r->fd);
	munmap(r->buf, BUF_SIZE);
	free(r);
}

/* Attach a queue; one given back by a ring just closed comes a little later. */
static int ring_queue_soon(struct ring *r, int index)
{
	double end = now() + 20;
	int ret;

	while ((ret = ring_queue(r, index)) == -EINVAL && now() < end)
		usleep(10000);
	return ret;
}

static struct ring *raw_ring_flags(unsigned entries, unsigned flags)
{
	struct ring *r = ring_new(entries, POLLED | flags);

	EXPECT(ring_queue_soon(r, 0), 0);
	return r;
}

static struct ring *raw_ring(unsigned entries)
{
	return raw_ring_flags(entries, 0);
}

static struct nvme_cmd *stage(struct ring *r, struct ns *ns, unsigned flags, uint64_t user_data)
{
	unsigned tail = *r->sq_tail + r->staged, index = tail & *r->sq_mask;
	uint8_t *e = r->sqes + index * 128;
	struct nvme_cmd *c = (void *)(e + 48);

	memset(e, 0, 128);
	e[0] = OP_URING_CMD;
	*(int *)(e + 4) = ns->fd;
	*(unsigned *)(e + 8) = CMD_IO;
	*(unsigned *)(e + 28) = flags;
	*(uint64_t *)(e + 32) = user_data;
	c->nsid = ns->nsid;
	r->sq_array[index] = index;
	r->staged++;
	r->seen[user_data] = 0;
	r->res[user_data] = 99999;
	return c;
}

static struct nvme_cmd *stage_io(struct ring *r, struct ns *ns, unsigned flags, uint64_t user_data,
				 int opcode, uint64_t slba, void *data, unsigned len)
{
	struct nvme_cmd *c = stage(r, ns, flags, user_data);

	c->opcode = opcode;
	c->addr = (uintptr_t)data;
	c->data_len = len;
	c->cdw10 = slba;
	c->cdw11 = slba >> 32;
	c->cdw12 = len ? len / ns->lba - 1 : 0;
	return c;
}

static int ring_enter(struct ring *r, unsigned submit, unsigned min)
{
	unsigned flags = IORING_ENTER_GETEVENTS;

	if (r->flags & IORING_SETUP_SQPOLL)
		flags |= IORING_ENTER_SQ_WAKEUP;
	int ret = syscall(SYS_io_uring_enter, r->fd, submit, min, flags, NULL, 0);

	return ret < 0 ? -errno : ret;
}

static void reap(struct ring *r)
{
	unsigned head = *r->cq_head, tail = __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE);
	unsigned size = r->flags & IORING_SETUP_CQE32 ? 32 : 16;

	for (; head != tail; head++) {
		uint8_t *e = r->cqes + (head & *r->cq_mask) * size;
		uint64_t user_data = *(uint64_t *)e;

		if (r->seen[user_data])
			fail(__LINE__, "a second completion for %llu", (long long)user_data);
		r->seen[user_data] = 1;
		r->res[user_data] = *(int *)(e + 8);
		r->result[user_data] = size == 32 ? *(uint64_t *)(e + 16) : 0;
		r->got++;
	}
	__atomic_store_n(r->cq_head, head, __ATOMIC_RELEASE);
}

static void submit(struct ring *r)
{
	while (r->staged) {
		__atomic_store_n(r->sq_tail, *r->sq_tail + r->staged, __ATOMIC_RELEASE);
		unsigned n = r->staged;
		r->staged = 0;
		while (n) {
			int ret = ring_enter(r, n, 0);
			if (ret <= 0) {
				fail(__LINE__, "submitting %u returns %d", n, ret);
				return;
			}
			n -= ret;
		}
	}
}

/* Wait until so many completions have come; false after some seconds. */
static bool wait_for(struct ring *r, unsigned count, double seconds)
{
	double end = now() + seconds;

	for (;;) {
		reap(r);
		if (r->got >= count)
			return true;
		if (now() > end) {
			fail(__LINE__, "%u of %u completions after %g s", r->got, count, seconds);
			return false;
		}
		int ret = ring_enter(r, 0, 0);
		if (ret < 0 && ret != -EINTR)
			fail(__LINE__, "entering returns %d", ret);
	}
}

/* Run the one command that is staged, as user_data 0; return its res. */
static int run_staged(struct ring *r)
{
	r->got = 0;
	submit(r);
	wait_for(r, 1, 20);
	return r->res[0];
}

static int run(struct ring *r, struct ns *ns, unsigned flags, int opcode, uint64_t slba, void *data,
	       unsigned len)
{
	stage_io(r, ns, flags, 0, opcode, slba, data, len);
	return run_staged(r);
}

static void fill(uint8_t *data, unsigned len, unsigned seed)
{
	uint32_t x = seed * 2654435761u + 12345;

	for (unsigned i = 0; i < len; i++) {
		x = x * 1664525 + 1013904223;
		data[i] = x >> 24;
	}
}

static uint64_t random_state = 1;

static uint64_t random64(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * 0x2545f4914f6cdd1dull;
}

static uint64_t below(uint64_t limit)
{
	return (random64() >> 16) % limit;
}

/* What raw_queues of the controller says: how many are free, of how many. */
static long free_queues(const char *controller, long *total)
{
	char path[64];
	long nr_free = -1;

	snprintf(path, sizeof(path), "/sys/class/nvme/%s/raw_queues", controller);
	FILE *file = fopen(path, "r");

	MUST(file && fscanf(file, "%ld %ld", total, &nr_free) == 2);
	fclose(file);
	return nr_free;
}

/*
 * The tests.
 */

static void test_register(void)
{
	struct ring *r = ring_new(8, POLLED), *bare, *plain;
	int32_t zero[10];
	long total;
	int null = open("/dev/null", O_RDWR);

	memset(zero, 0xff, sizeof(zero));
	zero[0] = 0;
	EXPECT(ring_register(r, UNREGISTER_QUEUE, NULL, 0), 0);
	EXPECT(ring_register(r, UNREGISTER_QUEUE, NULL, 1), -EINVAL);
	EXPECT(ring_register(r, UNREGISTER_QUEUE, zero, 0), -EINVAL);
	EXPECT(ring_register(r, REGISTER_QUEUE, zero, 0), -EINVAL);
	EXPECT(ring_register(r, REGISTER_QUEUE, zero, 2), -EINVAL);
	EXPECT(ring_register(r, REGISTER_QUEUE, NULL, 1), -EFAULT);
	EXPECT(ring_register(r, REGISTER_QUEUE, (void *)16, 1), -EFAULT);
	EXPECT(ring_queue(r, 1), -EBADF); /* an empty slot */
	EXPECT(ring_queue(r, 5), -EBADF);
	EXPECT(ring_queue(r, -1), -EBADF);
	EXPECT(ring_queue(r, 0x7fffffff), -EBADF);
	EXPECT(ring_register(r, 28, NULL, 0), -EINVAL);
	EXPECT(free_queues("nvme0", &total), total);
	CHECK(total >= 1);
	EXPECT(ring_register(r, REGISTER_QUEUE, zero, 1), 0);
	EXPECT(free_queues("nvme0", &total), total - 1);
	EXPECT(free_queues("nvme1", &total), total);
	EXPECT(ring_register(r, REGISTER_QUEUE, zero, 1), -EINVAL); /* has one */
	EXPECT(ring_register(r, UNREGISTER_QUEUE, NULL, 0), 0);
	EXPECT(free_queues("nvme0", &total), total);
	EXPECT(ring_register(r, UNREGISTER_QUEUE, NULL, 0), 0);
	for (int i = 0; i < 20; i++) {
		EXPECT(ring_queue(r, 0), 0);
		EXPECT(ring_register(r, UNREGISTER_QUEUE, NULL, 0), 0);
	}
	/* no registered files at all */
	bare = ring_new(8, POLLED);
	EXPECT(ring_register(bare, IORING_UNREGISTER_FILES, NULL, 0), 0);
	EXPECT(ring_queue(bare, 0), -EBADF);
	/* files that have no queues */
	EXPECT(ring_register(bare, IORING_REGISTER_FILES, &null, 1), 0);
	EXPECT(ring_queue(bare, 0), -EINVAL);
	/* a ring that does not poll */
	plain = ring_new(8, IORING_SETUP_SQE128 | IORING_SETUP_CQE32);
	EXPECT(ring_queue(plain, 0), -EINVAL);
	ring_free(plain);
	ring_free(bare);
	ring_free(r);
	close(null);
}

/* in memory that may not be written */
static const uint8_t test_zero[8192] = { 1 };

static void test_errors(void)
{
	struct ring *r = ring_new(8, POLLED), *plain;
	uint8_t *b = r->buf;
	struct nvme_cmd *c;

	EXPECT(run(r, &n1, FIXED | DIRECT, READ, 0, b, 512), -EINVAL); /* no queue */
	plain = ring_new(8, IORING_SETUP_SQE128 | IORING_SETUP_CQE32);
	EXPECT(run(plain, &n1, FIXED | DIRECT, READ, 0, plain->buf, 512), -EINVAL);
	ring_free(plain);

	EXPECT(ring_queue_soon(r, 0), 0);
	EXPECT(run(r, &n1, FIXED | DIRECT, READ, 0, b, 512), 0);
	EXPECT(run(r, &other, FIXED | DIRECT, READ, 0, b, 512), -EINVAL);
	EXPECT(run(r, &n1, FIXED | DIRECT | 4, READ, 0, b, 512), -EINVAL);
	EXPECT(run(r, &n1, DIRECT, READ, 0, b, 512), 0);
	EXPECT(run(r, &n1, DIRECT, READ, 0, (void *)0x100000, 512), -EFAULT);
	EXPECT(run(r, &n1, DIRECT, READ, 0, (void *)-4096ul, 512), -EFAULT);
	EXPECT(run(r, &n1, DIRECT, READ, 0, (void *)((uintptr_t)test_zero & ~4095ul), 512), -EFAULT);
	EXPECT(run(r, &n1, DIRECT, WRITE, 0, (void *)((uintptr_t)test_zero & ~4095ul), 512), 0);
	EXPECT(run(r, &n1, FIXED | DIRECT, READ, 0, b, limit + 512), -EINVAL);
	EXPECT(run(r, &n1, FIXED | DIRECT, READ, 0, b - 512, 512), -EFAULT);
	EXPECT(run(r, &n1, FIXED | DIRECT, READ, 0, b + BUF_SIZE - 256, 512), -EFAULT);
	EXPECT(run(r, &n1, FIXED | DIRECT, READ, 0, b + 2, 512), -EINVAL);
	EXPECT(run(r, &n1, FIXED | DIRECT, READ, 0, b, 511), -EINVAL);
	EXPECT(run(r, &n1, FIXED | DIRECT, READ, 0, NULL, 512), -EINVAL);
	EXPECT(run(r, &n1, FIXED | DIRECT, READ, 0, b, 0), -EINVAL);
	EXPECT(run(r, &n1, DIRECT, READ, 0, NULL, 0), -EINVAL);

	c = stage_io(r, &n1, FIXED | DIRECT, 0, READ, 0, b, 512);
	c->nsid = 2;
	EXPECT(run_staged(r), -EINVAL);
	c = stage_io(r, &n1, FIXED | DIRECT, 0, READ, 0, b, 512);
	c->flags = 1;
	EXPECT(run_staged(r), -EINVAL);
	c = stage_io(r, &n1, FIXED | DIRECT, 0, READ, 0, b, 512);
	c->metadata = (uintptr_t)b;
	EXPECT(run_staged(r), -EINVAL);
	c = stage_io(r, &n1, FIXED | DIRECT, 0, READ, 0, b, 512);
	c->metadata_len = 8;
	EXPECT(run_staged(r), -EINVAL);
	c = stage_io(r, &n1, FIXED | DIRECT, 0, READ, 0, b, 512);
	*(unsigned *)((uint8_t *)c - 40) = CMD_IO_VEC;
	EXPECT(run_staged(r), -EOPNOTSUPP);
	c = stage_io(r, &n1, FIXED | DIRECT, 0, READ, 0, b, 512);
	*(unsigned *)((uint8_t *)c - 40) = 12345;
	EXPECT(run_staged(r), -ENOTTY);
	c = stage_io(r, &n1, FIXED | DIRECT, 0, READ, 0, b, 512);
	*(uint16_t *)((uint8_t *)c - 8) = 1; /* buf_index */
	EXPECT(run_staged(r), -EFAULT);

	/* more blocks than the buffer has room for */
	c = stage_io(r, &n1, FIXED | DIRECT, 0, READ, 0, b, 1024);
	c->cdw12 = 2;
	EXPECT(run_staged(r), -EINVAL);
	c = stage(r, &n1, DIRECT, 0);
	c->opcode = WRITE;
	EXPECT(run_staged(r), -EINVAL);
	c = stage_io(r, &n1, FIXED | DIRECT, 0, DATASET, 1, b, 16);
	c->cdw12 = 0;
	EXPECT(run_staged(r), -EINVAL);
	c = stage_io(r, &zoned, FIXED | DIRECT, 0, ZONE_RECEIVE, 0, b, 4096);
	c->cdw12 = 4096 / 4;
	EXPECT(run_staged(r), -EINVAL);
	/* metadata that nobody provides, and that the controller makes (PRACT) */
	EXPECT(run(r, &protected, FIXED | DIRECT, WRITE, 0, b, 512), -EINVAL);
	c = stage_io(r, &protected, FIXED | DIRECT, 0, WRITE, 0, b, 4096);
	c->cdw12 |= 1u << 29;
	EXPECT(run_staged(r), 0);
	c = stage_io(r, &protected, FIXED | DIRECT, 0, READ, 0, b + 8192, 4096);
	c->cdw12 |= 1u << 29;
	EXPECT(run_staged(r), 0);
	CHECK(!memcmp(b, b + 8192, 4096));

	/* the controller's own answers */
	EXPECT(run(r, &n1, FIXED | DIRECT, READ, BLOCKS(&n1), b, 512), 0x4080);
	EXPECT(run(r, &n1, DIRECT, 0xc0, 0, NULL, 0), 0x4001);
	fill(b, 4096, 1);
	EXPECT(run(r, &n1, FIXED | DIRECT, WRITE, 64, b, 4096), 0);
	EXPECT(run(r, &n1, FIXED | DIRECT, COMPARE, 64, b, 4096), 0);
	b[4095]++;
	/* the same as without a raw queue, with or without DNR */
	EXPECT(run(r, &n1, FIXED | DIRECT, COMPARE, 64, b, 4096) & 0x7ff, 0x285);
	EXPECT(run(r, &n1, FIXED | DIRECT, COMPARE, 64, b, 4096),
	       run(r, &n1, 0, COMPARE, 64, b, 4096));
	EXPECT(run(r, &n1, FIXED | DIRECT, READ, 0, b, 512), 0);
	ring_free(r);
}

static void test_data(void)
{
	static const unsigned offsets[] = { 0,	   4,	      512,	 2048,	4092,	    4096,
					    4100,  5120,      65536 - 4, 69632, 1048576 - 512, 1000000 };
	static const unsigned sizes[] = { 512,	      1024,	   4096 - 512, 4096,	 4096 + 512,
					  8192,	      8192 + 512,  12288,      65536,	 131072,
					  135168,     139264,	   262144 + 512, MDTS - 4096,
					  MDTS - 512, MDTS };
	struct ring *r = raw_ring(8);
	uint8_t *ref = malloc(BUF_SIZE), *was = malloc(BUF_SIZE);
	struct ns *spaces[] = { &n1, &n2 };
	unsigned seed = 1, done = 0;

	for (int s = 0; s < 4; s++) {
		struct ns *ns = spaces[s / 2];
		unsigned flags = s % 2 ? DIRECT : FIXED | DIRECT;

		for (unsigned i = 0; i < sizeof(offsets) / sizeof(*offsets); i++)
			for (unsigned j = 0; j < sizeof(sizes) / sizeof(*sizes); j++) {
				unsigned at = offsets[i], len = sizes[j], slba = seed % 1000;

				if (len % ns->lba || len > limit)
					continue;
				/* written here, read by the ioctl */
				fill(r->buf + at, len, ++seed);
				EXPECT(run(r, ns, flags, WRITE, slba, r->buf + at, len), 0);
				sync_io(ns, READ, slba, ref, len);
				if (memcmp(ref, r->buf + at, len))
					fail(__LINE__, "write of %u at %u: wrong data", len, at);
				/* written by the ioctl, read here, and nothing else touched */
				fill(ref, len, ++seed);
				sync_io(ns, WRITE, slba, ref, len);
				memcpy(was, r->buf, BUF_SIZE);
				EXPECT(run(r, ns, flags, READ, slba, r->buf + at, len), 0);
				memcpy(was + at, ref, len);
				if (memcmp(was, r->buf, BUF_SIZE))
					fail(__LINE__, "read of %u at %u: wrong data", len, at);
				done++;
			}
	}
	printf("  %u transfers\n", done * 2);
	free(ref);
	free(was);
	ring_free(r);
}

static void test_nodata(void)
{
	struct ring *r = raw_ring(8);
	struct nvme_cmd *c;
	uint8_t *ref = malloc(16384), *zero = calloc(1, 16384);

	fill(ref, 16384, 7);
	sync_io(&n1, WRITE, 200, ref, 16384);
	c = stage(r, &n1, DIRECT, 0);
	c->opcode = WRITE_ZEROES;
	c->cdw10 = 208;
	c->cdw12 = 15;
	EXPECT(run_staged(r), 0);
	c = stage(r, &n1, DIRECT, 0);
	c->opcode = FLUSH;
	EXPECT(run_staged(r), 0);
	memset(ref + 8 * 512, 0, 16 * 512);
	sync_io(&n1, READ, 200, zero, 16384);
	CHECK(!memcmp(zero, ref, 16384));
	for (unsigned i = 0; i < 64; i++)
		if (i < 8)
			stage(r, &n1, DIRECT, i)->opcode = FLUSH;
	r->got = 0;
	submit(r);
	wait_for(r, 8, 20);
	for (int i = 0; i < 8; i++)
		EXPECT(r->res[i], 0);
	free(ref);
	free(zero);
	ring_free(r);
}

/* Results of 64 bits, and commands whose data is optional. */
static void test_zones(void)
{
	struct ring *r = raw_ring(8);
	uint8_t *report = r->buf + 5 * 4096 + 8;
	struct nvme_cmd *c;

	for (unsigned i = 0; i < 3; i++) {
		r->buf[i * 4096] = 0x40 + i;
		EXPECT(run(r, &zoned, FIXED | DIRECT, ZONE_APPEND, 0x400, r->buf + i * 4096, 4096), 0);
		EXPECT(r->result[0], 0x400 + i);
	}
	EXPECT(run(r, &zoned, FIXED | DIRECT, READ, 0x400, r->buf + 65536, 3 * 4096), 0);
	CHECK(!memcmp(r->buf, r->buf + 65536, 3 * 4096));
	EXPECT(run(r, &zoned, FIXED | DIRECT, ZONE_APPEND, 0x401, r->buf, 4096), 0x4002);
	c = stage_io(r, &zoned, FIXED | DIRECT, 0, ZONE_RECEIVE, 0, report, 4096);
	c->cdw12 = 4096 / 4 - 1;
	EXPECT(run_staged(r), 0);
	EXPECT(*(uint64_t *)report, 128 / 4);
	EXPECT(*(uint64_t *)(report + 64 + 64 + 24), 0x403); /* the second zone's pointer */
	c = stage(r, &zoned, DIRECT, 0);
	c->opcode = ZONE_SEND;
	c->cdw10 = 0x400;
	c->cdw13 = 4; /* reset */
	EXPECT(run_staged(r), 0);
	EXPECT(run(r, &zoned, FIXED | DIRECT, ZONE_APPEND, 0x400, r->buf, 4096), 0);
	EXPECT(r->result[0], 0x400);
	ring_free(r);
}

/* Every block of the first megabyte begins with its number. */
static void number_blocks(struct ns *ns)
{
	uint8_t *data = calloc(1, 65536);

	for (unsigned at = 0; at < 1024 * KIB; at += 65536) {
		for (unsigned i = 0; i < 65536; i += ns->lba)
			*(uint32_t *)(data + i) = (at + i) / ns->lba ^ 0xabcd0000;
		sync_io(ns, WRITE, at / ns->lba, data, 65536);
	}
	free(data);
}

/*
 * Keep depth reads in flight. If mixed, every mixed-th goes through the block
 * layer, which on 6.1 refuses parts of large registered buffers: so it and the
 * one after it go without FIXED.
 */
static void random_reads(struct ring *r, struct ns *ns, unsigned total, unsigned depth,
			 unsigned mixed, unsigned seed)
{
	unsigned started = 0, finished = 0, wrong = 0, lba[4096], blocks = 1024 * KIB / ns->lba;
	double end = now() + 60;

	memset(r->seen, 1, sizeof(r->seen));
	while (finished < total && now() < end) {
		unsigned tags[4096], free_tags = 0;

		for (unsigned t = 0; t < depth && started + free_tags < total; t++)
			if (r->seen[t] == 1)
				tags[free_tags++] = t;
		for (unsigned i = 0; i < free_tags; i++) {
			unsigned t = tags[i];
			uint8_t *at = r->buf + t * (BUF_SIZE / depth & ~4095u) + 512 * (t % 4);

			seed = seed * 1103515245 + 12345;
			lba[t] = (seed >> 8) % blocks;
			unsigned flags = mixed && t % mixed == 0   ? 0
					 : mixed && t % mixed == 1 ? DIRECT
								   : FIXED | DIRECT;
			*(uint32_t *)at = 0;
			stage_io(r, ns, flags, t, READ,
				 lba[t], at, ns->lba);
			started++;
		}
		r->got = 0;
		submit(r);
		int ret = ring_enter(r, 0, 1);
		if (ret < 0 && ret != -EINTR)
			fail(__LINE__, "entering returns %d", ret);
		reap(r);
		for (unsigned t = 0; t < depth; t++)
			if (r->seen[t] == 1 && r->res[t] != 99999) {
				uint8_t *at = r->buf + t * (BUF_SIZE / depth & ~4095u) + 512 * (t % 4);

				if (r->res[t] || *(uint32_t *)at != (lba[t] ^ 0xabcd0000))
					wrong++;
				r->res[t] = 99999;
				finished++;
			}
	}
	EXPECT(finished, total);
	EXPECT(wrong, 0);
}

static void test_depth(void)
{
	struct ring *r = raw_ring(256);
	double start;

	number_blocks(&n1);
	for (unsigned depth = 1; depth <= 64; depth *= 8) {
		start = now();
		random_reads(r, &n1, depth == 1 ? 1000 : 10000, depth, 0, depth);
		printf("  depth %u: %.0f reads a second\n", depth,
		       (depth == 1 ? 1000 : 10000) / (now() - start));
	}
	number_blocks(&n2);
	random_reads(r, &n2, 5000, 64, 0, 3);
	ring_free(r);
}

/* The other ways in which a ring can submit and complete. */
static void test_setups(void)
{
	static const unsigned flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
		IORING_SETUP_SQPOLL,
	};

	number_blocks(&n1);
	for (unsigned i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
		struct ring *r = raw_ring_flags(256, flags[i]);

		random_reads(r, &n1, 5000, 64, 0, i);
		r->got = 0;
		for (int t = 0; t < 4; t++)
			stage_io(r, &slow, FIXED | DIRECT, t, READ, t, r->buf + t * 4096, 512);
		submit(r);
		if (i == 1)
			EXPECT(ring_register(r, UNREGISTER_QUEUE, NULL, 0), 0);
		if (i != 0)
			wait_for(r, 4, 20);
		ring_free(r);
	}
}

/* More commands than the queue has room for: io_uring holds them back. */
static void test_overfull(void)
{
	struct ring *r = raw_ring(2048);

	number_blocks(&n1);
	r->got = 0;
	for (int i = 0; i < 1500; i++)
		stage_io(r, &n1, FIXED | DIRECT, i, READ, i, r->buf + i * 512, 512);
	submit(r);
	wait_for(r, 1500, 60);
	for (unsigned i = 0; i < 1500; i++)
		if (r->res[i] || *(uint32_t *)(r->buf + i * 512) != (i ^ 0xabcd0000)) {
			fail(__LINE__, "command %u: res %d", i, r->res[i]);
			break;
		}
	ring_free(r);
}

static volatile bool stop;

static void *block_reader(void *argument)
{
	int fd = open("/dev/nvme0n1", O_RDONLY | O_DIRECT);
	unsigned long *count = argument;
	void *data;

	MUST(fd >= 0 && !posix_memalign(&data, 4096, 4096));
	while (!stop) {
		unsigned at = (*count * 7919) % 256;

		MUST(pread(fd, data, 4096, at * 4096) == 4096);
		if (*(uint32_t *)data != ((at * 8) ^ 0xabcd0000u))
			fail(__LINE__, "block layer: wrong data");
		++*count;
	}
	close(fd);
	free(data);
	return NULL;
}

static void test_mixed(void)
{
	struct ring *r = raw_ring(256);
	unsigned long count = 0;
	pthread_t thread;

	number_blocks(&n1);
	stop = false;
	pthread_create(&thread, NULL, block_reader, &count);
	random_reads(r, &n1, 10000, 64, 3, 11);
	stop = true;
	pthread_join(thread, NULL);
	CHECK(count > 10);
	ring_free(r);
}

static void *ring_thread(void *argument)
{
	random_reads(argument, &n1, 10000, 32, 0, (uintptr_t)argument);
	return NULL;
}

static void test_rings(void)
{
	struct ring *a = raw_ring(128), *b = raw_ring(128), *c = ring_new(8, POLLED);
	pthread_t thread;

	number_blocks(&n1);
	EXPECT(ring_queue(c, 0), -EINVAL); /* none free */
	EXPECT(run(c, &n1, FIXED | DIRECT, READ, 0, c->buf, 512), -EINVAL);
	pthread_create(&thread, NULL, ring_thread, a);
	random_reads(b, &n1, 10000, 32, 0, 5);
	pthread_join(thread, NULL);
	EXPECT(ring_queue(c, 2), 0); /* the other controller's are free */
	EXPECT(run(c, &other, FIXED | DIRECT, READ, 0, c->buf, 512), 0);
	EXPECT(run(c, &n1, FIXED | DIRECT, READ, 0, c->buf, 512), -EINVAL);
	EXPECT(ring_register(c, UNREGISTER_QUEUE, NULL, 0), 0);
	EXPECT(ring_register(a, UNREGISTER_QUEUE, NULL, 0), 0);
	EXPECT(ring_queue(c, 0), 0);
	EXPECT(run(c, &n1, FIXED | DIRECT, READ, 3, c->buf, 512), 0);
	EXPECT(run(a, &n1, FIXED | DIRECT, READ, 3, a->buf, 512), -EINVAL);
	EXPECT(run(a, &n1, 0, READ, 3, a->buf, 512), 0);
	/* the queue outlives the files it came from */
	EXPECT(ring_register(c, IORING_UNREGISTER_FILES, NULL, 0), 0);
	EXPECT(run(c, &n1, FIXED | DIRECT, READ, 3, c->buf, 512), 0);
	ring_free(c);
	ring_free(b);
	ring_free(a);
}

static void stage_slow(struct ring *r, unsigned first, unsigned count, unsigned timeout_ms)
{
	for (unsigned i = first; i < first + count; i++)
		stage_io(r, &slow, FIXED | DIRECT, i, READ, i, r->buf + i * 4096, 512)->timeout_ms =
			timeout_ms;
}

static void test_unregister(void)
{
	struct ring *r = raw_ring(64);
	double start = now();

	r->got = 0;
	stage_slow(r, 0, 8, 0);
	submit(r);
	EXPECT(ring_register(r, UNREGISTER_QUEUE, NULL, 0), 0);
	printf("  unregistering took %.1f s\n", now() - start);
	CHECK(now() - start > 0.5);
	reap(r);
	EXPECT(r->got, 8); /* without entering again */
	for (int i = 0; i < 8; i++)
		EXPECT(r->res[i], 0);
	EXPECT(run(r, &n1, FIXED | DIRECT, READ, 0, r->buf, 512), -EINVAL);
	EXPECT(ring_queue(r, 0), 0);
	EXPECT(run(r, &n1, FIXED | DIRECT, READ, 0, r->buf, 512), 0);
	ring_free(r);
}

static void test_close(void)
{
	struct ring *r, *s;

	/* closed with commands in flight */
	for (int i = 0; i < 3; i++) {
		r = raw_ring(64);
		stage_slow(r, 0, 6, 0);
		if (i == 2) /* not registered, and unmapped while in flight */
			stage_io(r, &slow, DIRECT, 6, READ, 0, r->buf + 65536, 8192);
		submit(r);
		ring_free(r);
	}
	/* the process ends with commands in flight, and is killed with some */
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (!pid) {
			failures = 0;
			r = raw_ring(64);
			stage_slow(r, 0, 6, 0);
			submit(r);
			if (i)
				for (;;)
					ring_enter(r, 0, 0);
			_exit(failures ? 1 : 0);
		}
		if (i) {
			usleep(700000);
			kill(pid, 9);
		}
		int status;
		MUST(waitpid(pid, &status, 0) == pid);
		EXPECT(status, i ? 9 : 0);
	}
	/* both queues come back */
	r = raw_ring(8);
	s = raw_ring(8);
	EXPECT(run(r, &n1, FIXED | DIRECT, READ, 0, r->buf, 512), 0);
	EXPECT(run(s, &n1, FIXED | DIRECT, READ, 0, s->buf, 512), 0);
	ring_free(r);
	ring_free(s);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	MUST(fd >= 0);
	MUST(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static void *resetter(void *argument)
{
	(void)argument;
	write_file("/sys/class/nvme/nvme0/reset_controller", "1");
	return NULL;
}

/* Wait until the queue works again. */
static int works_again(struct ring *r, struct ns *ns)
{
	double end = now() + 20;
	int ret;

	while ((ret = run(r, ns, FIXED | DIRECT, READ, 0, r->buf, 512)) == -EBUSY && now() < end)
		usleep(1000);
	return ret;
}

static void test_reset(void)
{
	struct ring *r = raw_ring(128), *s = raw_ring(128);
	unsigned interrupted = 0, fine = 0, later = 0, wrong = 0;
	pthread_t thread;

	/* with commands that are in flight for sure */
	r->got = 0;
	stage_slow(r, 0, 16, 0);
	submit(r);
	resetter(NULL);
	wait_for(r, 16, 20);
	for (int i = 0; i < 16; i++) {
		interrupted += r->res[i] == -EINTR;
		fine += r->res[i] == 0;
	}
	printf("  slow: %u interrupted, %u completed\n", interrupted, fine);
	EXPECT(interrupted + fine, 16);
	EXPECT(works_again(r, &n1), 0);
	EXPECT(works_again(s, &n1), 0);
	number_blocks(&n1);
	random_reads(r, &n1, 2000, 64, 0, 1);
	random_reads(s, &n1, 2000, 64, 0, 2);

	/* again and again under load */
	interrupted = fine = 0;
	for (int round = 0; round < 10; round++) {
		bool started = false;
		unsigned passes = 0;

		do {
			r->got = 0;
			for (int i = 0; i < 64; i++)
				stage_io(r, &n1, FIXED | DIRECT, i, READ, i, r->buf + i * 4096, 4096);
			submit(r);
			if (!started) {
				pthread_create(&thread, NULL, resetter, NULL);
				started = true;
			}
			if (!wait_for(r, 64, 20))
				break;
			later = 0;
			for (int i = 0; i < 64; i++) {
				interrupted += r->res[i] == -EINTR;
				fine += r->res[i] == 0;
				later += r->res[i] == -EBUSY;
				wrong += r->res[i] != 0 && r->res[i] != -EINTR && r->res[i] != -EBUSY;
			}
		} while (later == 0 && ++passes < 3000);
		pthread_join(thread, NULL);
		EXPECT(works_again(r, &n1), 0);
	}
	printf("  load: %u interrupted, %u completed\n", interrupted, fine);
	EXPECT(wrong, 0);
	random_reads(r, &n1, 2000, 64, 5, 1);
	random_reads(s, &n1, 2000, 64, 5, 2);

	/* closed and unregistered while it is being reset */
	stage_slow(r, 0, 16, 0);
	submit(r);
	stage_slow(s, 0, 16, 0);
	submit(s);
	pthread_create(&thread, NULL, resetter, NULL);
	EXPECT(ring_register(r, UNREGISTER_QUEUE, NULL, 0), 0);
	ring_free(s);
	pthread_join(thread, NULL);
	ring_free(r);
	r = raw_ring(8);
	EXPECT(works_again(r, &n1), 0);
	ring_free(r);
}

static void test_timeout(void)
{
	struct ring *r = raw_ring(64);
	unsigned interrupted = 0, fine = 0, wrong = 0;
	double start = now();

	r->got = 0;
	stage_slow(r, 0, 24, 400); /* six seconds' worth */
	submit(r);
	wait_for(r, 24, 20);
	for (int i = 0; i < 24; i++) {
		interrupted += r->res[i] == -EINTR;
		fine += r->res[i] == 0;
		wrong += r->res[i] != -EINTR && r->res[i] != 0 && r->res[i] != 0x7;
	}
	printf("  %u interrupted, %u completed, after %.1f s\n", interrupted, fine, now() - start);
	CHECK(now() - start < 5 && now() - start > 0.4);
	CHECK(interrupted > 0);
	EXPECT(wrong, 0);
	EXPECT(works_again(r, &n1), 0);
	/* the same, but the ring is closed instead of polled */
	stage_slow(r, 0, 24, 400);
	submit(r);
	ring_free(r);
	r = raw_ring(8);
	EXPECT(works_again(r, &n1), 0);
	ring_free(r);
}

/*
 * Separate metadata: eight bytes for each block of ng0n5.
 */

#define PRACT	    (1u << 29)
#define CHECK_GUARD (1u << 28)

static int sync_meta(struct ns *ns, int opcode, uint64_t slba, void *data, unsigned len, void *meta,
		     unsigned meta_len, unsigned cdw12)
{
	struct nvme_ioctl64 c = { .cmd = { .opcode = opcode, .nsid = ns->nsid } };

	c.cmd.addr = (uintptr_t)data;
	c.cmd.data_len = len;
	c.cmd.metadata = (uintptr_t)meta;
	c.cmd.metadata_len = meta_len;
	c.cmd.cdw10 = slba;
	c.cmd.cdw12 = (len / ns->lba - 1) | cdw12;
	int ret = ioctl(ns->fd, IOCTL_IO64, &c);

	return ret < 0 ? -errno : ret;
}

static struct nvme_cmd *stage_meta(struct ring *r, struct ns *ns, unsigned flags, uint64_t tag,
				   int opcode, uint64_t slba, void *data, unsigned len, void *meta,
				   unsigned meta_len, unsigned cdw12)
{
	struct nvme_cmd *c = stage_io(r, ns, flags, tag, opcode, slba, data, len);

	c->metadata = (uintptr_t)meta;
	c->metadata_len = meta_len;
	c->cdw12 |= cdw12;
	return c;
}

static int run_meta(struct ring *r, struct ns *ns, unsigned flags, int opcode, uint64_t slba,
		    void *data, unsigned len, void *meta, unsigned meta_len, unsigned cdw12)
{
	stage_meta(r, ns, flags, 0, opcode, slba, data, len, meta, meta_len, cdw12);
	return run_staged(r);
}

/* Pages that are pinned at the moment, by anybody. */
static long pinned_pages(void)
{
	char name[64];
	long value, acquired = 0, released = 0;

	write_file("/proc/sys/vm/stat_refresh", "1");
	FILE *file = fopen("/proc/vmstat", "r");

	MUST(file);
	while (fscanf(file, "%63s %ld", name, &value) == 2)
		if (!strcmp(name, "nr_foll_pin_acquired"))
			acquired = value;
		else if (!strcmp(name, "nr_foll_pin_released"))
			released = value;
	fclose(file);
	return acquired - released;
}

/* Until closed rings have given back what they had. */
static void wait_idle(long pinned)
{
	double end = now() + 20;
	long total;

	while ((free_queues("nvme0", &total) != total || !total || pinned_pages() != pinned) &&
	       now() < end)
		usleep(20000);
	EXPECT(free_queues("nvme0", &total), total);
	EXPECT(pinned_pages(), pinned);
}

static void test_metadata(void)
{
	struct ring *r = raw_ring(64);
	unsigned most = limit / 512, meta_size = most * 8;
	uint8_t *b = r->buf, *ref = malloc(MDTS), *was = malloc(BUF_SIZE);
	uint8_t *area = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *area_was = malloc(65536), *ref_meta = malloc(meta_size), pi[64], again[64];
	uint8_t *constant = (void *)((uintptr_t)test_zero & ~4095ul);
	struct ns *ns = &protected;
	struct nvme_cmd *c;
	long pinned, total;

	MUST(area != MAP_FAILED);
	random_state = 4711;
	for (unsigned i = 0; i < 400; i++) {
		unsigned blocks = 1 + below(i % 4 ? 16 : most), len = blocks * 512;
		unsigned at = below((BUF_SIZE - len) / 4) * 4, slba = below(100000);
		unsigned meta_len = blocks * 8 + (i % 3 ? 0 : below(64));
		unsigned flags = i % 5 ? FIXED | DIRECT : DIRECT;

		if (meta_len > meta_size)
			meta_len = meta_size;
		uint8_t *meta = area + below(65536 - meta_len);

		/* written here, read by the ioctl */
		fill(b + at, len, i * 4);
		fill(meta, meta_len, i * 4 + 1);
		EXPECT(run_meta(r, ns, flags, WRITE, slba, b + at, len, meta, meta_len, 0), 0);
		EXPECT(sync_meta(ns, READ, slba, ref, len, ref_meta, blocks * 8, 0), 0);
		if (memcmp(ref, b + at, len) || memcmp(ref_meta, meta, blocks * 8))
			fail(__LINE__, "write of %u blocks: wrong", blocks);
		/* written by the ioctl, read here, and nothing else touched */
		fill(ref, len, i * 4 + 2);
		fill(ref_meta, blocks * 8, i * 4 + 3);
		EXPECT(sync_meta(ns, WRITE, slba, ref, len, ref_meta, blocks * 8, 0), 0);
		memcpy(was, b, BUF_SIZE);
		memcpy(area_was, area, 65536);
		EXPECT(run_meta(r, ns, flags, READ, slba, b + at, len, meta, meta_len, 0), 0);
		memcpy(was + at, ref, len);
		memcpy(area_was + (meta - area), ref_meta, blocks * 8);
		if (memcmp(was, b, BUF_SIZE) || memcmp(area_was, area, 65536))
			fail(__LINE__, "read of %u blocks: wrong", blocks);
		EXPECT(run_meta(r, ns, flags, COMPARE, slba, b + at, len, meta, meta_len, 0), 0);
	}
	meta_size = most * 8;

	/* what is compared is all of it */
	fill(b, 4096, 1);
	fill(area, 64, 2);
	EXPECT(run_meta(r, ns, FIXED | DIRECT, WRITE, 8, b, 4096, area, 64, 0), 0);
	EXPECT(run_meta(r, ns, FIXED | DIRECT, COMPARE, 8, b, 4096, area, 64, 0), 0);
	area[63] ^= 1;
	EXPECT(run_meta(r, ns, FIXED | DIRECT, COMPARE, 8, b, 4096, area, 64, 0) & 0x7ff, 0x285);
	area[63] ^= 1;
	b[4000] ^= 1;
	EXPECT(run_meta(r, ns, FIXED | DIRECT, COMPARE, 8, b, 4096, area, 64, 0) & 0x7ff, 0x285);

	/* refused */
	EXPECT(run_meta(r, ns, FIXED | DIRECT, READ, 8, b, 4096, area, 0, 0), -EINVAL);
	EXPECT(run_meta(r, ns, FIXED | DIRECT, READ, 8, b, 4096, NULL, 64, 0), -EINVAL);
	for (unsigned opcode = 1; opcode <= 5; opcode += opcode == 1 ? 1 : 3) {
		EXPECT(run_meta(r, ns, FIXED | DIRECT, opcode, 8, b, 4096, area, 63, 0), -EINVAL);
		EXPECT(run_meta(r, ns, FIXED | DIRECT, opcode, 8, b, 4096, NULL, 0, 0), -EINVAL);
	}
	EXPECT(run_meta(r, ns, FIXED | DIRECT, READ, 8, b, 4096, area, meta_size + 1, 0), -EINVAL);
	EXPECT(run_meta(r, ns, FIXED | DIRECT, READ, 8, b, 4096, area, ~0u, 0), -EINVAL);
	EXPECT(run_meta(r, ns, FIXED | DIRECT, READ, 8, b, 4096, area, meta_size, 0), 0);
	EXPECT(run_meta(r, ns, DIRECT, READ, 8, NULL, 0, area, 64, 0), -EINVAL);
	EXPECT(run_meta(r, ns, DIRECT, FLUSH, 8, NULL, 0, area, 64, 0), -EINVAL);
	EXPECT(run_meta(r, &n1, FIXED | DIRECT, READ, 8, b, 4096, area, 64, 0), -EINVAL);
	EXPECT(run_meta(r, ns, FIXED | DIRECT, READ, 8, b, 4096, (void *)0x100000, 64, 0), -EFAULT);
	EXPECT(run_meta(r, ns, FIXED | DIRECT, READ, 8, b, 4096, (void *)-4096ul, 64, 0), -EFAULT);
	EXPECT(run_meta(r, ns, FIXED | DIRECT, READ, 8, b, 4096, constant, 64, 0), -EFAULT);
	EXPECT(run_meta(r, ns, DIRECT, READ, 8, b, 4096, constant, 64, 0), -EFAULT);
	EXPECT(run_meta(r, ns, FIXED | DIRECT, WRITE, 8, b, 4096, (void *)0x100000, 64, 0), -EFAULT);
	EXPECT(run_meta(r, ns, FIXED | DIRECT, WRITE, 8, b, 4096, constant, 64, 0), 0);

	/* made and stripped by the controller: given metadata is left alone */
	fill(b, 4096, 9);
	EXPECT(run_meta(r, ns, FIXED | DIRECT, WRITE, 8, b, 4096, NULL, 0, PRACT), 0);
	EXPECT(run_meta(r, ns, FIXED | DIRECT, READ, 8, b + 8192, 4096, NULL, 0, PRACT), 0);
	CHECK(!memcmp(b, b + 8192, 4096));
	fill(area, 64, 10);
	fill(area_was, 64, 10);
	EXPECT(run_meta(r, ns, FIXED | DIRECT, READ, 8, b + 8192, 4096, area, 64, PRACT), 0);
	CHECK(!memcmp(area, area_was, 64));
	/* what it made is there and right; a wrong guard is found, by it */
	EXPECT(run_meta(r, ns, FIXED | DIRECT, READ, 8, b + 8192, 4096, pi, 64, CHECK_GUARD), 0);
	EXPECT(sync_meta(ns, READ, 8, ref, 4096, again, 64, 0), 0);
	CHECK(!memcmp(pi, again, 64));
	CHECK(memcmp(pi, pi + 8, 2));
	pi[3 * 8] ^= 1;
	EXPECT(run_meta(r, ns, FIXED | DIRECT, WRITE, 8, b, 4096, pi, 64, CHECK_GUARD) & 0x7ff, 0x282);
	EXPECT(run_meta(r, ns, FIXED | DIRECT, WRITE, 8, b, 4096, pi, 64, 0), 0);
	EXPECT(run_meta(r, ns, FIXED | DIRECT, READ, 8, b, 4096, area, 64, CHECK_GUARD) & 0x7ff, 0x282);
	CHECK(!memcmp(area, area_was, 64)); /* nor read if that failed */
	EXPECT(run_meta(r, ns, FIXED | DIRECT, READ, 8, b, 4096, area, 64, 0), 0);
	CHECK(!memcmp(area, pi, 64));

	/* other bytes of the same page, given back in any order */
	r->got = 0;
	for (unsigned i = 0; i < 64; i++) {
		fill(b + i * 4096, 4096, 100 + i);
		fill(area + i * 64, 64, 200 + i);
		stage_meta(r, ns, i % 3 ? FIXED | DIRECT : DIRECT, i, WRITE, 800 + i * 8, b + i * 4096,
			   4096, area + i * 64, 64, 0);
	}
	submit(r);
	wait_for(r, 64, 20);
	memcpy(was, b, 64 * 4096);
	memcpy(area_was, area, 64 * 64);
	memset(b, 0, 64 * 4096);
	memset(area, 0, 64 * 64);
	r->got = 0;
	for (unsigned i = 0; i < 64; i++)
		stage_meta(r, ns, i % 3 ? FIXED | DIRECT : DIRECT, i, READ, 800 + i * 8, b + i * 4096,
			   4096, area + i * 64, 64, 0);
	submit(r);
	wait_for(r, 64, 20);
	for (unsigned i = 0; i < 64; i++)
		EXPECT(r->res[i], 0);
	CHECK(!memcmp(was, b, 64 * 4096) && !memcmp(area_was, area, 64 * 64));
	ring_free(r);

	/*
	 * Ended by closing, by a reset, and by a signal: nothing stays. Not by
	 * a reset if they are slow, because QEMU (7.2) forgets to cancel what
	 * it does for metadata then, and answers new commands with old ones'.
	 */

	do {
		pinned = pinned_pages();
		usleep(300000);
	} while (free_queues("nvme0", &total) != total || pinned_pages() != pinned);
	for (int way = 0; way < 6; way++) {
		pid_t pid = way >= 4 ? fork() : 0;

		if (!pid) {
			struct ns *held = way != 2 && way != 3 ? &slow_meta : ns;

			failures = way >= 4 ? 0 : failures;
			r = raw_ring(64);
			EXPECT(works_again(r, &n1), 0);
			for (unsigned i = 0; i < 32; i++)
				stage_meta(r, held, i % 2 ? FIXED | DIRECT : DIRECT, i,
					   i % 4 < 2 ? READ : WRITE, i * 8, r->buf + i * 65536, 4096,
					   area + 32 + i * 64, 64, 0);
			r->got = 0;
			submit(r);
			if (way == 1)
				EXPECT(ring_register(r, UNREGISTER_QUEUE, NULL, 0), 0);
			if (way >= 2 && way < 4)
				write_file("/sys/class/nvme/nvme0/reset_controller", "1");
			if (way == 3 || way == 1) {
				wait_for(r, 32, 20);
				for (int i = 0; i < 32; i++)
					if (way == 1 || r->res[i] != -EINTR)
						EXPECT(r->res[i], 0);
			}
			if (way == 5)
				for (;;)
					ring_enter(r, 0, 1);
			if (way >= 4)
				_exit(failures ? 1 : 0);
			/* unmapped while in flight */
			munmap(area, 65536);
			ring_free(r);
			area = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			MUST(area != MAP_FAILED);
		} else {
			int status;

			if (way == 5) {
				usleep(100000);
				kill(pid, 9);
			}
			MUST(waitpid(pid, &status, 0) == pid);
			EXPECT(status, way == 5 ? 9 : 0);
		}
		wait_idle(pinned);
	}

	/* with extended blocks the data buffer has the metadata, too */
	r = raw_ring(8);
	fill(r->buf, 8 * 520, 77);
	c = stage_io(r, &extended, FIXED | DIRECT, 0, WRITE, 0, r->buf, 8 * 520);
	c->cdw12 = 7;
	EXPECT(run_staged(r), 0);
	c = stage_io(r, &extended, FIXED | DIRECT, 0, READ, 0, r->buf + 8192, 8 * 520);
	c->cdw12 = 7;
	EXPECT(run_staged(r), 0);
	CHECK(!memcmp(r->buf, r->buf + 8192, 8 * 520));
	c = stage_io(r, &extended, FIXED | DIRECT, 0, READ, 0, r->buf, 8 * 520 - 4);
	c->cdw12 = 7;
	EXPECT(run_staged(r), -EINVAL);
	EXPECT(run(r, &extended, FIXED | DIRECT, READ, 0, r->buf, 4096), -EINVAL);
	EXPECT(run_meta(r, &extended, FIXED | DIRECT, READ, 0, r->buf, 4096, area, 64, 0),
	       -EINVAL);
	ring_free(r);
	munmap(area, 65536);
	free(area_was);
	free(ref_meta);
	free(ref);
	free(was);
}

/*
 * Verified load. Every block carries its number and how many times it was
 * written, and words made of both; an array in memory says what is right.
 */

struct region {
	struct ns *ns;
	uint32_t first, blocks;
	uint32_t *generation;
	uint8_t *busy; /* a command is in flight for this block */
};

static uint64_t block_word(uint64_t lba, uint32_t generation)
{
	return (lba << 32 | generation) * 0x9e3779b97f4a7c15ull + 1;
}

static void make_block(void *data, unsigned size, uint64_t lba, uint32_t generation)
{
	uint64_t *w = data, word = block_word(lba, generation);

	for (unsigned i = 0; i < size / 8; i++)
		w[i] = word + i;
	w[0] = lba << 32 | generation;
}

static bool block_is(const void *data, unsigned size, uint64_t lba, uint32_t generation)
{
	const uint64_t *w = data;
	uint64_t word = block_word(lba, generation), wrong = w[0] ^ (lba << 32 | generation);

	for (unsigned i = 1; i < size / 8; i++)
		wrong |= w[i] ^ (word + i);
	return !wrong;
}

/* Write all of it through the ioctl, which is what the rest is judged by. */
static struct region *region_new(struct ns *ns, uint32_t first, uint32_t blocks)
{
	struct region *g = calloc(1, sizeof(*g));
	unsigned step = 65536 / ns->lba;
	uint8_t *data = malloc(65536);

	MUST(g && data && blocks % step == 0);
	*g = (struct region){ ns, first, blocks, calloc(blocks, 4), calloc(blocks, 1) };
	for (uint32_t i = 0; i < blocks; i += step) {
		for (uint32_t j = 0; j < step; j++)
			make_block(data + j * ns->lba, ns->lba, first + i + j, 0);
		sync_io(ns, WRITE, first + i, data, 65536);
	}
	free(data);
	return g;
}

static void region_free(struct region *g)
{
	free(g->generation);
	free(g->busy);
	free(g);
}

/* Read all of it back in another way than it was written. */
static void region_check(struct region *g)
{
	unsigned size = g->ns->lba, step = 65536 / size, wrong = 0;
	uint8_t *data = malloc(65536);

	for (uint32_t i = 0; i < g->blocks; i += step) {
		sync_io(g->ns, READ, g->first + i, data, 65536);
		for (uint32_t j = 0; j < step; j++)
			wrong += !block_is(data + j * size, size, g->first + i + j,
					   g->generation[i + j]);
	}
	EXPECT(wrong, 0);
	free(data);
}

/*
 * Random reads and writes, depth of them in flight, never two for one block:
 * mostly of one to eight blocks, at any offset in the registered buffer, and
 * every eighth as if it were not registered.
 */
static void region_load(struct ring *r, struct region *g, unsigned total, unsigned depth)
{
	struct {
		uint32_t at, blocks;
		uint8_t *data;
		bool write;
	} slots[64];
	unsigned free_slots[64], nr_free = depth, started = 0, finished = 0, wrong = 0;
	unsigned size = g->ns->lba, room = BUF_SIZE / depth & ~4095u;
	double last = now();

	for (unsigned i = 0; i < depth; i++)
		free_slots[i] = i;
	while (finished < total && wrong < 10) {
		while (nr_free && started < total) {
			unsigned t = free_slots[--nr_free], k = random64() >> 56;
			unsigned most = k < 4 ? room / size - 1 : 8, blocks, at, i;
			uint64_t x = random64();

			if (most > room / size - 1)
				most = room / size - 1;
			do {
				blocks = 1 + below(most);
				at = below(g->blocks - blocks + 1);
				for (i = 0; i < blocks && !g->busy[at + i]; i++)
					;
			} while (i < blocks);
			memset(g->busy + at, 1, blocks);
			slots[t].at = at;
			slots[t].blocks = blocks;
			slots[t].write = x & 256;
			slots[t].data = r->buf + t * room + (x >> 32) % (room - blocks * size + 1) / 4 * 4;
			for (i = 0; i < blocks; i++)
				if (slots[t].write)
					make_block(slots[t].data + i * size, size, g->first + at + i,
						   ++g->generation[at + i]);
				else
					*(uint64_t *)(slots[t].data + i * size) = ~0ull;
			stage_io(r, g->ns, x % 8 ? FIXED | DIRECT : DIRECT, t,
				 slots[t].write ? WRITE : READ, g->first + at, slots[t].data,
				 blocks * size);
			started++;
		}
		/* submit and wait in one call */
		unsigned n = r->staged, head, tail;

		__atomic_store_n(r->sq_tail, *r->sq_tail + n, __ATOMIC_RELEASE);
		r->staged = 0;
		for (int ret; (ret = ring_enter(r, n, 1)) != (int)n; n -= ret)
			if (ret < 0 && ret != -EINTR) {
				fail(__LINE__, "entering with %u returns %d", n, ret);
				exit(2);
			} else if (ret < 0) {
				ret = 0;
			}
		head = *r->cq_head;
		tail = __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE);
		if (head == tail && now() > last + 60) {
			fail(__LINE__, "no completion for a minute, %u of %u", finished, total);
			exit(2);
		}
		for (; head != tail; head++) {
			uint8_t *e = r->cqes + (head & *r->cq_mask) * 32;
			unsigned t = *(uint64_t *)e;
			int res = *(int *)(e + 8);
			uint32_t at = slots[t].at;

			MUST(t < depth && g->busy[at] == 1);
			for (unsigned i = 0; !res && !slots[t].write && i < slots[t].blocks; i++)
				if (!block_is(slots[t].data + i * size, size, g->first + at + i,
					      g->generation[at + i]))
					res = 99999;
			if (res) {
				fail(__LINE__, "%s of %u blocks at %u: %d",
				     slots[t].write ? "write" : "read", slots[t].blocks, at, res);
				wrong++;
			}
			memset(g->busy + at, 0, slots[t].blocks);
			free_slots[nr_free++] = t;
			finished++;
			last = finished & 255 ? last : now();
		}
		__atomic_store_n(r->cq_head, head, __ATOMIC_RELEASE);
	}
}

static void test_million(void)
{
	const char *count = getenv("AIONVME_RAWQ_COUNT");
	unsigned total = count ? atoi(count) : 1000000;
	struct region *g = region_new(&n1, 0, BLOCKS(&n1) / 2);
	struct ring *r = raw_ring(128);
	double start = now();

	random_state = 20230424;
	for (unsigned i = 0; i < 4; i++)
		region_load(r, g, total / 4, i % 2 ? 64 : 32);
	printf("  %u reads and writes, %.0f a second\n", total / 4 * 4, total / (now() - start));
	region_check(g);
	ring_free(r);
	region_free(g);
}

/*
 * The block layer at work beside it, on the same namespace.
 */

static void *block_direct(void *argument)
{
	struct region *g = argument;
	int fd = open("/dev/nvme0n1", O_RDWR | O_DIRECT);
	unsigned long count = 0;
	uint64_t x = 99;
	uint8_t *data;

	MUST(fd >= 0 && !posix_memalign((void **)&data, 4096, 65536));
	while (!stop) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		unsigned blocks = 1 + (x >> 33) % (x >> 60 ? 16 : 128);
		unsigned at = (x >> 20) % (g->blocks - blocks + 1);

		if (x >> 55 & 1) {
			for (unsigned i = 0; i < blocks; i++)
				make_block(data + i * 512, 512, g->first + at + i,
					   ++g->generation[at + i]);
			MUST(pwrite(fd, data, blocks * 512, (g->first + at) * 512ll) ==
			     blocks * 512ll);
		} else {
			MUST(pread(fd, data, blocks * 512, (g->first + at) * 512ll) ==
			     blocks * 512ll);
			for (unsigned i = 0; i < blocks; i++)
				if (!block_is(data + i * 512, 512, g->first + at + i,
					      g->generation[at + i]))
					fail(__LINE__, "direct: block %u is wrong", at + i);
		}
		count++;
	}
	close(fd);
	free(data);
	return (void *)count;
}

/* Through the page cache, to the device and back from it. */
static void *block_buffered(void *argument)
{
	struct region *g = argument;
	int fd = open("/dev/nvme0n1", O_RDWR);
	unsigned long count = 0;
	uint64_t x = 7;
	uint8_t *data = malloc(65536);

	MUST(fd >= 0 && data);
	while (!stop) {
		for (unsigned n = 0; n < 8; n++) {
			x = x * 6364136223846793005ull + 1442695040888963407ull;
			unsigned blocks = 1 + (x >> 33) % 128;
			unsigned at = (x >> 20) % (g->blocks - blocks + 1);

			for (unsigned i = 0; i < blocks; i++)
				make_block(data + i * 512, 512, g->first + at + i,
					   ++g->generation[at + i]);
			MUST(pwrite(fd, data, blocks * 512, (g->first + at) * 512ll) ==
			     blocks * 512ll);
		}
		MUST(fsync(fd) == 0);
		MUST(posix_fadvise(fd, g->first * 512ll, g->blocks * 512ll, POSIX_FADV_DONTNEED) == 0);
		for (unsigned n = 0; n < 8; n++) {
			x = x * 6364136223846793005ull + 1442695040888963407ull;
			unsigned at = (x >> 20) % (g->blocks - 127);

			MUST(pread(fd, data, 65536, (g->first + at) * 512ll) == 65536);
			for (unsigned i = 0; i < 128; i++)
				if (!block_is(data + i * 512, 512, g->first + at + i,
					      g->generation[at + i]))
					fail(__LINE__, "buffered: block %u is wrong", at + i);
		}
		count += 16;
	}
	MUST(fsync(fd) == 0);
	close(fd);
	free(data);
	return (void *)count;
}

static void test_block(void)
{
	unsigned half = BLOCKS(&n1) / 2;
	struct region *raw = region_new(&n1, 0, half), *direct = region_new(&n1, half, half / 2),
		      *buffered = region_new(&n1, half + half / 2, half / 2);
	struct ring *r = raw_ring(128);
	unsigned long directs, buffereds, raws = 0;
	double end = now() + 15;
	pthread_t a, b;

	stop = false;
	pthread_create(&a, NULL, block_direct, direct);
	pthread_create(&b, NULL, block_buffered, buffered);
	for (; now() < end; raws += 1000)
		region_load(r, raw, 1000, 32);
	stop = true;
	pthread_join(a, (void **)&directs);
	pthread_join(b, (void **)&buffereds);
	printf("  %lu raw, %lu direct, %lu buffered\n", raws, directs, buffereds);
	CHECK(directs > 100 && buffereds >= 16);
	region_check(raw);
	region_check(direct);
	region_check(buffered);
	ring_free(r);
	region_free(raw);
	region_free(direct);
	region_free(buffered);
}

/*
 * Nonsense. The controller gets to see only namespace 1, and buffers of ours:
 * around the one that is registered nothing is mapped.
 */

#define FUZZ_GUARD (64ul << 20)
#define FUZZ_BUF   (256ul * KIB)

static uint64_t fuzz_address(uint8_t *buf)
{
	switch (below(24)) {
	case 0:
		return 0;
	case 1:
		return random64();
	case 2:
		return random64() & 0x7fffffffffffull & -4096ull;
	case 3:
		return -below(65536);
	case 4:
		return (uintptr_t)buf - 8192 + below(16384);
	case 5:
		return (uintptr_t)buf + FUZZ_BUF - 8192 + below(16384);
	case 6:
		return (uintptr_t)buf + below(FUZZ_BUF);
	case 7:
		return (uintptr_t)test_zero;
	default:
		return (uintptr_t)buf + below(FUZZ_BUF / 4) * 4;
	}
}

static uint32_t fuzz_length(void)
{
	switch (below(16)) {
	case 0:
		return random64();
	case 1:
		return below(MDTS * 3);
	case 2:
		return 0;
	default:
		return 512 << below(9);
	}
}

static uint32_t fuzz_word(void)
{
	switch (below(4)) {
	case 0:
		return random64();
	case 1:
		return 1u << below(32);
	default:
		return below(256);
	}
}

static void fuzz_command(struct ring *r, uint8_t *buf, uint64_t tag)
{
	static const uint8_t opcodes[] = { FLUSH, WRITE, READ, READ, COMPARE, WRITE_ZEROES, 9, 0x0c,
					   0x19, ZONE_SEND, ZONE_RECEIVE, ZONE_APPEND };
	static const uint32_t ops[] = { CMD_IO_VEC, CMD_IO + 2, CMD_IO + 3, 0, ~0u };
	static const uint8_t sqe_flags[] = { IOSQE_FIXED_FILE, IOSQE_ASYNC, IOSQE_IO_LINK,
					     IOSQE_ASYNC | IOSQE_IO_LINK, IOSQE_IO_HARDLINK };
	unsigned flags = below(8) ? (below(8) ? DIRECT : 0) | (below(4) ? FIXED : 0) : random64();
	struct nvme_cmd *c = stage(r, &n1, flags, tag);
	uint8_t *e = (uint8_t *)c - 48;
	int fds[] = { n2.fd, other.fd, r->fd, -1, 999, 0, 1 << 30 };
	bool wild = below(6) == 0, calm = below(2);

	if (calm)
		goto command;
	if (below(16) == 0)
		*(uint32_t *)(e + 8) = ops[below(5)];
	if (below(32) == 0)
		*(uint32_t *)(e + 12) = fuzz_word();
	if (below(16) == 0)
		*(uint16_t *)(e + 40) = below(2) ? 0xffff : below(4); /* buf_index */
	if (below(64) == 0)
		*(uint16_t *)(e + 42) = fuzz_word(); /* personality */
	if (below(64) == 0)
		*(uint32_t *)(e + 44) = fuzz_word(); /* file_index */
	if (below(16) == 0)
		*(uint16_t *)(e + 2) = random64(); /* ioprio */
	if (below(12) == 0)
		*(int *)(e + 4) = fds[below(7)];
	if (below(6) == 0) {
		e[1] = sqe_flags[below(5)];
		if (e[1] & IOSQE_FIXED_FILE)
			*(int *)(e + 4) = below(8) ? 0 : (int)fuzz_word();
	}
	if (below(64) == 0)
		e[0] = below(2) ? 0 : 60 + below(196); /* NOP, or none that there is */

command:
	/*
	 * A garbage nsid must not make it another namespace's command: that
	 * field is checked against the file's, which may be n2 or other.
	 */
	if (wild)
		for (unsigned i = 0; i < sizeof(*c); i++)
			((uint8_t *)c)[i] = random64() >> 32;
	c->opcode = below(4) ? opcodes[below(sizeof(opcodes))] : random64();
	c->flags = below(32) ? 0 : random64();
	c->nsid = below(32) ? 1 : fuzz_word();
	if (below(32))
		c->metadata = c->metadata_len = 0;
	else {
		c->metadata = fuzz_address(buf);
		c->metadata_len = fuzz_length();
	}
	c->addr = fuzz_address(buf);
	c->data_len = fuzz_length();
	/* a time-out would end in a reset for all */
	c->timeout_ms = below(32) ? 0 : 60000 + (random64() >> 33);
	if (!wild) {
		c->cdw10 = below(8) ? below(BLOCKS(&n1)) : fuzz_word();
		c->cdw11 = below(8) ? 0 : fuzz_word();
		c->cdw12 = below(8) ? c->data_len / 512 - 1 - below(2) : fuzz_word();
		if (below(8) == 0)
			c->cdw13 = fuzz_word();
		if (below(8) == 0)
			c->cdw14 = fuzz_word();
		if (below(8) == 0)
			c->cdw15 = fuzz_word();
	}
	/*
	 * The block layer's way has no check that the data fits. And in polled
	 * rings 6.1.192 crashes if such a command is polled once more after it
	 * was completed (the union of cookie and task_work_cb in its struct
	 * io_uring_cmd has the address of a function then): which is the case
	 * after errors, and when the ring is closed. There they are refused.
	 */
	if (!(flags & DIRECT)) {
		*(int *)(e + 4) = n1.fd;
		*(uint32_t *)(e + 8) = CMD_IO;
		e[1] &= ~IOSQE_FIXED_FILE;
		c->metadata = c->metadata_len = 0;
		c->opcode = READ;
		if (r->flags & IORING_SETUP_IOPOLL || c->data_len < 512 || c->data_len > MDTS)
			c->nsid = 2;
		c->cdw10 = below(BLOCKS(&n1) / 2);
		c->cdw11 = c->cdw13 = c->cdw14 = c->cdw15 = 0;
		c->cdw12 = c->data_len / 512 - 1;
	}
}

static void fuzz_register(struct ring *r, uint8_t *buf)
{
	unsigned op = below(2) ? REGISTER_QUEUE : UNREGISTER_QUEUE;
	unsigned nr = below(3) ? op == REGISTER_QUEUE : fuzz_word();
	uint64_t argument;

	switch (below(6)) {
	case 0:
		argument = fuzz_address(buf);
		break;
	case 1:
		argument = op == REGISTER_QUEUE ? (uintptr_t)buf + FUZZ_BUF - 4 + below(8) : 0;
		break;
	default:
		argument = op == REGISTER_QUEUE ? (uintptr_t)buf + below(4096) : 0;
		if (argument) {
			int32_t index = below(3) ? below(10) : fuzz_word();

			memcpy((void *)argument, &index, 4);
		}
	}
	int ret = ring_register(r, op, (void *)argument, nr);

	if (ret != 0 && ret != -EINVAL && ret != -EBADF && ret != -EFAULT)
		fail(__LINE__, "opcode %u, argument %#llx, %u: %d", op, (long long)argument, nr, ret);
	if (ret == 0 && op == REGISTER_QUEUE && (nr != 1 || !(r->flags & IORING_SETUP_IOPOLL)))
		fail(__LINE__, "registered with %u arguments, ring flags %#x", nr, r->flags);
}

static void test_fuzz(void)
{
	const char *seed_text = getenv("AIONVME_RAWQ_SEED"), *count = getenv("AIONVME_RAWQ_FUZZ");
	uint64_t seed = seed_text ? strtoull(seed_text, NULL, 0) : (uint64_t)time(NULL);
	unsigned total = count ? atoi(count) : 20000, cases = 0, ok = 0, refused = 0, status = 0;
	unsigned ring_flags[] = { POLLED, POLLED, POLLED, POLLED | IORING_SETUP_SUBMIT_ALL,
				  POLLED, POLLED | IORING_SETUP_SUBMIT_ALL,
				  POLLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
				  IORING_SETUP_SQE128 | IORING_SETUP_CQE32,
				  IORING_SETUP_IOPOLL | IORING_SETUP_SQE128 };
	uint8_t *guard = mmap(0, FUZZ_GUARD * 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *buf = guard + FUZZ_GUARD;
	int null = open("/dev/null", O_RDWR), file = memfd_create("rawq_fuzz", 0);
	int controller = open("/dev/nvme0", O_RDWR);
	struct iovec iov = { buf, FUZZ_BUF };
	int files[] = { n1.fd, -1, other.fd, n2.fd, null, file, controller, n1.fd };
	struct ring *r;
	double start = now();

	MUST(guard != MAP_FAILED && null >= 0 && file >= 0 && controller >= 0);
	MUST(mprotect(buf, FUZZ_BUF, PROT_READ | PROT_WRITE) == 0);
	random_state = seed * 2 + 1;
	printf("  AIONVME_RAWQ_SEED=%llu\n", (long long)seed);
	fflush(stdout);
	while (cases < total) {
		unsigned kind = below(9), queued;
		int io_uring;

		r = ring_new(64, ring_flags[kind]);
		io_uring = r->fd;
		EXPECT(ring_register(r, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
		if (below(8))
			EXPECT(ring_register(r, IORING_REGISTER_BUFFERS, &iov, 1), 0);
		EXPECT(ring_register(r, IORING_UNREGISTER_FILES, NULL, 0), 0);
		EXPECT(ring_register(r, IORING_REGISTER_FILES, &io_uring, 1), -EBADF);
		if (below(6))
			EXPECT(ring_register(r, IORING_REGISTER_FILES, files, 8), 0);
		for (unsigned n = 0; n < 20 && cases < total; n++) {
			int32_t zero = 0;

			if (below(3) == 0)
				fuzz_register(r, buf);
			if (below(8))
				ring_register(r, REGISTER_QUEUE, &zero, 1);
			queued = 1 + below(40);
			for (unsigned i = 0; i < queued; i++)
				fuzz_command(r, buf, i);
			/* chains end with the batch */
			(r->sqes + ((*r->sq_tail + r->staged - 1) & *r->sq_mask) * 128)[1] &=
				~(IOSQE_IO_LINK | IOSQE_IO_HARDLINK);
			r->got = 0;
			submit(r);
			cases += queued;
			if (below(8) == 0)
				fuzz_register(r, buf);
			if (below(64) == 0)
				break; /* closed as it is */
			if (!wait_for(r, queued, 30)) {
				for (unsigned i = 0; i < queued; i++)
					if (!r->seen[i])
						printf("  no completion for %u\n", i);
				exit(2);
			}
			for (unsigned i = 0; i < queued; i++) {
				ok += r->res[i] == 0;
				refused += r->res[i] < 0;
				status += r->res[i] > 0;
			}
		}
		ring_free(r);
	}
	printf("  %u commands: %u fine, %u refused, %u failed (%.1f s)\n", cases, ok, refused, status,
	       now() - start);
	CHECK(ok > cases / 100 && refused > cases / 100 && status > cases / 100);

	/* all is well */
	struct region *g = region_new(&n1, 0, 4096);

	for (int i = 0; i < 2; i++) {
		r = raw_ring(128);
		region_load(r, g, 2000, 64);
		ring_free(r);
	}
	region_check(g);
	region_free(g);
	munmap(guard, FUZZ_GUARD * 2);
	close(null);
	close(file);
	close(controller);
}

static void test_remove(void)
{
	struct ring *r = ring_new(128, POLLED);
	unsigned fine = 0, wrong = 0;

	EXPECT(ring_queue(r, 2), 0);
	EXPECT(run(r, &other, FIXED | DIRECT, READ, 0, r->buf, 512), 0);
	r->got = 0;
	for (int i = 0; i < 64; i++)
		stage_io(r, &other, FIXED | DIRECT, i, READ, i, r->buf + i * 16384, 16384);
	submit(r);
	write_file("/sys/class/nvme/nvme1/device/remove", "1");
	wait_for(r, 64, 20);
	for (int i = 0; i < 64; i++) {
		fine += r->res[i] == 0;
		wrong += r->res[i] != 0 && r->res[i] != -EINTR;
	}
	EXPECT(wrong, 0);
	EXPECT(run(r, &other, FIXED | DIRECT, READ, 0, r->buf, 512), -ENODEV);
	EXPECT(run(r, &n1, FIXED | DIRECT, READ, 0, r->buf, 512), -EINVAL);
	EXPECT(ring_register(r, UNREGISTER_QUEUE, NULL, 0), 0);
	EXPECT(ring_queue(r, 2), -EINVAL);
	EXPECT(ring_queue(r, 0), 0);
	EXPECT(run(r, &n1, FIXED | DIRECT, READ, 0, r->buf, 512), 0);
	ring_free(r);
}

/* Rings that the last test has closed may have commands that time out. */
static void settle(void)
{
	double end = now() + 30;
	long total;

	while (free_queues("nvme0", &total) != total || !total)
		if (now() > end) {
			fail(__LINE__, "raw queues are still in use");
			break;
		} else {
			usleep(20000);
		}
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*function)(void);
	} tests[] = {
		{ "register", test_register }, { "errors", test_errors },
		{ "data", test_data },	       { "nodata", test_nodata },
		{ "zones", test_zones },
		{ "depth", test_depth },       { "overfull", test_overfull },
		{ "setups", test_setups },
		{ "mixed", test_mixed },       { "rings", test_rings },
		{ "unregister", test_unregister }, { "close", test_close },
		{ "reset", test_reset },       { "timeout", test_timeout },
		{ "metadata", test_metadata }, { "million", test_million },
		{ "block", test_block },       { "fuzz", test_fuzz },
		{ "remove", test_remove },
	};
	struct ns *spaces[] = { &n1, &n2, &slow, &protected, &zoned, &slow_meta, &extended, &other };

	for (unsigned i = 0; i < sizeof(spaces) / sizeof(*spaces); i++) {
		spaces[i]->fd = open(spaces[i]->path, O_RDWR);
		MUST(spaces[i]->fd >= 0);
	}
	FILE *file = fopen("/sys/block/nvme0n1/queue/max_hw_sectors_kb", "r");
	unsigned kib;
	MUST(file && fscanf(file, "%u", &kib) == 1);
	fclose(file);
	if (limit > kib * KIB)
		limit = kib * KIB;
	printf("transfers up to %u KiB\n", limit / KIB);

	for (unsigned i = 0; i < sizeof(tests) / sizeof(*tests); i++) {
		bool wanted = argc == 1;
		int before = failures;
		double start;

		for (int a = 1; a < argc; a++)
			wanted |= !strcmp(argv[a], tests[i].name);
		if (!wanted)
			continue;
		current = tests[i].name;
		settle();
		start = now();
		tests[i].function();
		printf("%s %s (%.1f s)\n", failures == before ? "ok  " : "FAIL", current, now() - start);
		fflush(stdout);
	}
	printf(failures ? "%d failures\n" : "all passed\n", failures);
	return failures != 0;
}
