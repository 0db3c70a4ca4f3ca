// SPDX-License-Identifier: MIT
/*
 * One ring, over liburing 2.3 and newer. See core.h for the contract.
 *
 * liburing maps the ring, moves its indices with the right barriers and makes the system calls. Four things it leaves to us:
 *
 * - io_uring_get_sqe() clears at most half of a 128-byte entry. We copy all 128 bytes over whatever was there.
 * - io_uring_queue_exit() before 2.9 unmaps half of an array of 128-byte entries. The other half would keep the ring's file, and
 *   with it every registered buffer, alive until the process ends. ring_unmap() undoes what queue_init did, by itself.
 * - io_uring_submit() on a ring with a kernel thread counts entries again that the thread has not yet taken, and enters the kernel on
 *   each call where the ring polls as well. hand_over() stores the tail, and enters only to wake the thread.
 * - "Fewer completions than asked for" does not mean "no more": one enter runs a bounded amount of deferred work. The flags in the
 *   shared submission ring tell whether the kernel wants to be entered again.
 */
#include "core.h"

#include <errno.h>
#include <liburing.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(struct aionvme_sqe) == 2 * sizeof(struct io_uring_sqe), "an entry of a SQE128 ring");
_Static_assert(sizeof(struct aionvme_cqe) == 2 * sizeof(struct io_uring_cqe), "an entry of a CQE32 ring");

/* How often one tick enters the kernel for deferred work: each enter runs about 20 pieces, and a tick must stay short. */
#define ENTERS_PER_TICK 4

/* The longest waits until a polled ring is asked for completions, first and again, and the least by which they grow. */
#define POLL_WAIT_MAX_NS  100000
#define POLL_AGAIN_MAX_NS 500000
#define POLL_STEP_NS	  200

/* How long it takes the kernel's thread to see new entries, and little else: a sleep and a wake-up cost about as much. */
#define THREAD_NS 20000

/* After lingering in vain up to 2 to this power callers are sent on at once. */
#define VAIN_MAX 6

/* The raw queues' calls of io_uring_register. Mainline came to use both numbers otherwise: 26 in 6.8, 27 in 6.9. */
#define IORING_REGISTER_QUEUE	26
#define IORING_UNREGISTER_QUEUE 27

/* user_data of a batch's command: AIONVME_BATCH_USER_DATA, the batch's slot, its position. */
#define BATCHES	   64
#define SLOT_SHIFT 32

struct aionvme_ring {
	struct io_uring ring;
	struct aionvme_batch *batches[BATCHES]; /* by slot */
	unsigned under_way;			/* how many */
	unsigned unsubmitted;			/* entries of theirs that are yet to be submitted */
	unsigned batched;			/* entries of theirs that were and have not completed */
	unsigned depth;				/* batches are submitted while less than this is in flight */
	int eventfd;
	uint64_t submitted, reaped; /* how many, so far */
	unsigned in_flight; /* taken by the kernel, not yet reaped: what a polled ring has to enter for */
	bool has_queue;
	struct aionvme_latencies *latencies; /* where they are recorded, or NULL */
	uint64_t recording_since;
	uint64_t *submitted_ns;		     /* of the entry in each slot, 0 where it is not known */
	unsigned stamped;		     /* the submission queue's tail up to which it has been noted */
	struct aionvme_polls polls;
	uint64_t poll_ns;	/* when to poll */
	uint64_t poll_wait_ns;	/* how long after something has happened that is, as a rule */
	uint64_t again_ns;	/* how long after polling in vain, or 0 */
	unsigned vain, skip;		/* how often lingering was in vain, and how often not to try again */
};

static unsigned sq_flags(const struct aionvme_ring *ring)
{
	return __atomic_load_n(ring->ring.sq.kflags, __ATOMIC_RELAXED);
}

/* Completions wait in the kernel for us to enter: deferred work, or entries that found the completion ring full. */
static bool work_pending(const struct aionvme_ring *ring)
{
	return sq_flags(ring) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Whether a kernel thread submits, and polls where that is to be done. */
static bool has_thread(const struct aionvme_ring *ring)
{
	return ring->ring.flags & IORING_SETUP_SQPOLL;
}

/*
 * Have the kernel keep no more than one worker for what it cannot submit at once: commands for which there is no request left, or
 * whose controller is being reset.
 *
 * The first worker is made inside of our system call. Others are made whenever the thread leaves the kernel, also from an interrupt,
 * whose registers have -1 for the system call's number; the worker inherits them. On x86 with the x32 ABI (Debian's kernels)
 * in_compat_syscall() takes that for a 32-bit call, and nvme_to_user_ptr() cuts the address of the data to 32 bits: the command
 * fails with EFAULT, or moves its data to other memory of ours. Seen on Linux 6.1 and 7.3. Registered buffers are not concerned.
 *
 * The limit is the thread's, for all of its rings as long as it lives, and there since Linux 5.15. It is that of the bounded
 * workers alone: what other rings do with regular files and block devices and cannot submit at once is done one by one as well, and
 * waits while a command of ours does. The unbounded workers, of sockets and pipes, are left as they are: what waits there may be for
 * another of them to do something. Beside a thread that submits the limit is that thread's, which has no other ring.
 */
static void one_worker(struct aionvme_ring *ring)
{
	unsigned most[2] = { 1, 0 }; /* 0 leaves it as it is */

	(void)io_uring_register_iowq_max_workers(&ring->ring, most);
}

static int ring_open(unsigned entries, unsigned cq_entries, bool iopoll, unsigned idle_ms, struct aionvme_ring **out)
{
	const unsigned base = IORING_SETUP_SQE128 | IORING_SETUP_CQE32 | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL |
			      (iopoll ? IORING_SETUP_IOPOLL : 0) | (idle_ms ? IORING_SETUP_SQPOLL : 0);
	const unsigned wanted[] = {
		/* The thread does the deferred work: the kernel takes none of the flags below beside it. */
		idle_ms ? 0 :
		/* TASKRUN_FLAG shows deferred work in the shared ring, so that a tick enters only when there is some. */
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG, /* 6.1 */
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, /* 5.19 */
	};
	struct aionvme_ring *ring = calloc(1, sizeof(*ring));
	int ret = -ENOMEM;

	if (!ring)
		return ret;
	ring->eventfd = -1;
	ring->depth = entries;
	for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		struct io_uring_params params = {
			.flags = base | wanted[i], .cq_entries = cq_entries, .sq_thread_idle = idle_ms,
		};

		ret = io_uring_queue_init_params(entries, &ring->ring, &params);
		if (ret != -EINVAL || idle_ms)
			break;
	}
	if (ret < 0) {
		free(ring);
		return ret;
	}
	one_worker(ring);
	*out = ring;
	return 0;
}

int aionvme_ring_open(unsigned entries, unsigned cq_entries, bool iopoll, struct aionvme_ring **out)
{
	return ring_open(entries, cq_entries, iopoll, 0, out);
}

int aionvme_ring_open_sqpoll(unsigned entries, unsigned cq_entries, bool iopoll, unsigned idle_ms, struct aionvme_ring **out)
{
	return ring_open(entries, cq_entries, iopoll, idle_ms ? idle_ms : 1, out);
}

static void ring_unmap(struct io_uring *ring)
{
	const struct io_uring_sq *sq = &ring->sq;
	const struct io_uring_cq *cq = &ring->cq;

	munmap(sq->sqes, (size_t)sq->ring_entries * sizeof(struct aionvme_sqe));
	if (cq->ring_ptr && cq->ring_ptr != sq->ring_ptr)
		munmap(cq->ring_ptr, cq->ring_sz);
	munmap(sq->ring_ptr, sq->ring_sz);
	close(ring->ring_fd);
}

void aionvme_ring_close(struct aionvme_ring *ring)
{
	/*
	 * The kernel gives a closed ring's queue back as well, but some time later. With commands in flight this call would wait for
	 * them, for as long as they may take, so that is left to the kernel then.
	 */
	if (ring->has_queue && !ring->in_flight)
		aionvme_ring_unregister_queue(ring);
	ring_unmap(&ring->ring);
	if (ring->eventfd >= 0)
		close(ring->eventfd);
	free(ring->submitted_ns);
	free(ring);
}

unsigned aionvme_ring_flags(const struct aionvme_ring *ring)
{
	return ring->ring.flags;
}

unsigned aionvme_ring_overflow(const struct aionvme_ring *ring)
{
	return __atomic_load_n(ring->ring.cq.koverflow, __ATOMIC_RELAXED);
}

/* Entries that are yet to be submitted. Those that were handed to the thread are in flight, whether it has taken them or not. */
static unsigned ready(const struct aionvme_ring *ring)
{
	const struct io_uring_sq *sq = &ring->ring.sq;

	return has_thread(ring) ? sq->sqe_tail - sq->sqe_head : io_uring_sq_ready(&ring->ring);
}

/*
 * How many entries of batches may be submitted: what single ones leave of the depth, or what is missing of the quarter that is the
 * batches' in any case.
 */
static unsigned room(const struct aionvme_ring *ring)
{
	const unsigned taken = ring->in_flight + ready(ring), space = io_uring_sq_space_left(&ring->ring);
	const unsigned share = ring->depth < 8 ? 1 : ring->depth / 4;
	unsigned n = taken < ring->depth ? ring->depth - taken : 0;

	if (ring->batched < share && n < share - ring->batched)
		n = share - ring->batched;
	return n < space ? n : space;
}

unsigned aionvme_ring_queued(const struct aionvme_ring *ring)
{
	const unsigned more = room(ring);

	return ready(ring) + (ring->unsubmitted < more ? ring->unsubmitted : more);
}

uint64_t aionvme_ring_submitted(const struct aionvme_ring *ring)
{
	return ring->submitted;
}

bool aionvme_ring_busy(const struct aionvme_ring *ring)
{
	return ring->in_flight || ring->unsubmitted || ready(ring);
}

int aionvme_ring_add_batch(struct aionvme_ring *ring, struct aionvme_batch *batch)
{
	for (unsigned slot = 0; slot < BATCHES; slot++) {
		if (ring->batches[slot])
			continue;
		batch->submitted = batch->completed = 0;
		batch->slot = slot;
		ring->batches[slot] = batch;
		ring->under_way++;
		ring->unsubmitted += batch->n;
		return 0;
	}
	return -EBUSY;
}

static void end_batch(struct aionvme_ring *ring, const struct aionvme_batch *batch)
{
	ring->batches[batch->slot] = NULL;
	ring->under_way--;
}

int aionvme_ring_stop_batch(struct aionvme_ring *ring, struct aionvme_batch *batch)
{
	if (ring->batches[batch->slot] != batch)
		return 1;
	ring->unsubmitted -= batch->n - batch->submitted;
	batch->n = batch->submitted;
	if (batch->completed < batch->n)
		return 0;
	end_batch(ring, batch);
	return 1;
}

int aionvme_ring_register_files(struct aionvme_ring *ring, const int *fds, unsigned n)
{
	return io_uring_register_files(&ring->ring, fds, n);
}

int aionvme_ring_reserve_buffers(struct aionvme_ring *ring, unsigned n)
{
	return io_uring_register_buffers_sparse(&ring->ring, n);
}

int aionvme_ring_set_buffer(struct aionvme_ring *ring, unsigned index, void *addr, uint64_t len)
{
	const struct iovec iov = { .iov_base = len ? addr : NULL, .iov_len = len };
	const __u64 tag = 0;
	int ret = io_uring_register_buffers_update_tag(&ring->ring, index, &iov, &tag, 1);

	return ret < 0 ? ret : 0; /* the system call counts the entries it updated */
}

static int ring_register(const struct aionvme_ring *ring, unsigned opcode, void *arg, unsigned nr_args)
{
	return syscall(__NR_io_uring_register, ring->ring.ring_fd, opcode, arg, nr_args) < 0 ? -errno : 0;
}

int aionvme_ring_register_queue(struct aionvme_ring *ring, int32_t index)
{
	/*
	 * The call takes one s32. Mainline's number 26 (IORING_REGISTER_PBUF_STATUS) takes 40 bytes of which the last 32 must be 0: it
	 * refuses these.
	 */
	uint8_t arg[40];
	int ret;

	memset(arg, 0xff, sizeof(arg));
	memset(arg, 0, 8);
	memcpy(arg, &index, sizeof(index));
	ret = ring_register(ring, IORING_REGISTER_QUEUE, arg, 1);
	ring->has_queue |= !ret;
	return ret;
}

int aionvme_ring_unregister_queue(struct aionvme_ring *ring)
{
	int ret = ring_register(ring, IORING_UNREGISTER_QUEUE, NULL, 0);

	if (!ret)
		ring->has_queue = false;
	return ret;
}

int aionvme_ring_register_eventfd(struct aionvme_ring *ring)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int ret;

	if (fd < 0)
		return -errno;
	/*
	 * Never register_eventfd_async: it signals only for completions posted from an interrupt or worker, and misses the rest.
	 */
	ret = io_uring_register_eventfd(&ring->ring, fd);
	if (!ret)
		ret = io_uring_cq_eventfd_toggle(&ring->ring, false);
	if (ret) {
		close(fd);
		return ret;
	}
	ring->eventfd = fd;
	return fd;
}

int aionvme_ring_arm(struct aionvme_ring *ring)
{
	io_uring_cq_eventfd_toggle(&ring->ring, true);
	/*
	 * The kernel publishes a completion (or the TASKRUN flag), then reads EVENTFD_DISABLED; we clear EVENTFD_DISABLED, then read
	 * what it published. With a full fence between, one of the two sees the other: a completion that raced with us is either
	 * found below or signals the eventfd.
	 */
	atomic_thread_fence(memory_order_seq_cst);
	if (!io_uring_cq_ready(&ring->ring) && !work_pending(ring))
		return 0;
	aionvme_ring_disarm(ring);
	return 1;
}

void aionvme_ring_disarm(struct aionvme_ring *ring)
{
	eventfd_t count;

	io_uring_cq_eventfd_toggle(&ring->ring, false);
	/* Non-blocking; -EAGAIN only says that nothing had been signalled. */
	(void)!eventfd_read(ring->eventfd, &count);
}

struct aionvme_sqe *aionvme_ring_next_sqe(struct aionvme_ring *ring)
{
	return (struct aionvme_sqe *)io_uring_get_sqe(&ring->ring);
}

/* Copy entries into the submission queue until it is full; returns how many. The kernel sees none of them before ring_enter(). */
static unsigned fill(struct aionvme_ring *ring, const struct aionvme_sqe *sqes, unsigned n)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);

		if (!sqe)
			break;
		memcpy(sqe, &sqes[i], sizeof(sqes[i]));
	}
	return i;
}

static void set_column(uint8_t *entry, const struct aionvme_column *column, uint32_t i)
{
	const uint8_t *value = column->values + i * column->stride;

	/* Sizes that the compiler knows: each becomes one load and one store. */
	switch (column->width) {
	case 1:
		memcpy(entry + column->offset, value, 1);
		break;
	case 2:
		memcpy(entry + column->offset, value, 2);
		break;
	case 4:
		memcpy(entry + column->offset, value, 4);
		break;
	default:
		memcpy(entry + column->offset, value, 8);
	}
}

static void fill_from_batch(struct aionvme_ring *ring, struct aionvme_batch *batch, unsigned n, uint64_t now)
{
	const uint64_t user_data = AIONVME_BATCH_USER_DATA | (uint64_t)batch->slot << SLOT_SHIFT;
	const uint32_t end = batch->submitted + n;

	for (uint32_t i = batch->submitted; i < end; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);

		memcpy(sqe, &batch->entry, sizeof(batch->entry));
		for (uint32_t k = 0; k < batch->n_columns; k++)
			set_column((uint8_t *)sqe, &batch->columns[k], i);
		sqe->user_data = user_data | i;
		batch->completions[i].latency_ns = now;
	}
	batch->submitted = end;
	ring->unsubmitted -= n;
	ring->batched += n;
}

/* The same from the batches, each getting a share of the room. */
static void fill_from_batches(struct aionvme_ring *ring, uint64_t now)
{
	unsigned waiting = 0, left = room(ring);

	for (unsigned slot = 0; slot < BATCHES; slot++)
		waiting += ring->batches[slot] && ring->batches[slot]->submitted < ring->batches[slot]->n;
	for (unsigned slot = 0; slot < BATCHES && left; slot++) {
		struct aionvme_batch *batch = ring->batches[slot];
		unsigned n;

		if (!batch || batch->submitted == batch->n)
			continue;
		n = (left + waiting - 1) / waiting;
		if (n > batch->n - batch->submitted)
			n = batch->n - batch->submitted;
		fill_from_batch(ring, batch, n, now);
		left -= n;
		waiting--;
	}
}

unsigned aionvme_latency_bucket(uint64_t ns)
{
	const unsigned shift = ns < 128 ? 0 : 56 - __builtin_clzll(ns);

	return shift * 128 + (ns >> shift);
}

int aionvme_ring_record(struct aionvme_ring *ring, struct aionvme_latencies *to)
{
	if (!ring->submitted_ns)
		ring->submitted_ns = calloc(ring->depth, sizeof(*ring->submitted_ns));
	if (!ring->submitted_ns)
		return -ENOMEM;
	/* What is in flight is left out: nobody noted when it was submitted. */
	memset(ring->submitted_ns, 0, ring->depth * sizeof(*ring->submitted_ns));
	ring->stamped = ring->ring.sq.sqe_tail;
	ring->recording_since = now_ns();
	ring->latencies = to;
	return 0;
}

static void count(struct aionvme_latencies *latencies, uint64_t ns)
{
	latencies->counts[aionvme_latency_bucket(ns)]++;
	latencies->total_ns += ns;
	if (ns > latencies->max_ns)
		latencies->max_ns = ns;
}

/* The slot of an entry, by its user_data; the ring's size where it has none. */
static unsigned slot_of(const struct aionvme_ring *ring, uint64_t user_data)
{
	const unsigned slot = user_data & ((1u << AIONVME_SLOT_BITS) - 1);

	return user_data & AIONVME_BATCH_USER_DATA || slot >= ring->depth ? ring->depth : slot;
}

/* Note when the entries that are new in the submission queue were submitted: now. */
static void stamp(struct aionvme_ring *ring)
{
	const struct io_uring_sq *sq = &ring->ring.sq;
	const uint64_t now = now_ns();

	for (; ring->stamped != sq->sqe_tail; ring->stamped++) {
		const unsigned slot = slot_of(ring, sq->sqes[(ring->stamped & (sq->ring_entries - 1)) << 1].user_data);

		if (slot < ring->depth)
			ring->submitted_ns[slot] = now;
	}
}

struct aionvme_polls aionvme_ring_polls(const struct aionvme_ring *ring)
{
	return ring->polls;
}

/* Hand queued entries to the thread, and wake it where it sleeps. 0, or a negative errno. */
static int hand_over(struct aionvme_ring *ring)
{
	struct io_uring_sq *sq = &ring->ring.sq;
	const unsigned n = ready(ring);
	int ret = 0;

	sq->sqe_head = sq->sqe_tail;
	/* Behind this the thread sees the tail, and with it what was stored before: the entries. */
	__atomic_store_n(sq->ktail, sq->sqe_tail, __ATOMIC_RELEASE);
	ring->in_flight += n;
	ring->submitted += n;
	/*
	 * The thread raises NEED_WAKEUP, then looks at the tail once more and sleeps; we store the tail, then look at NEED_WAKEUP. With a
	 * full fence between, one of the two sees the other.
	 */
	atomic_thread_fence(memory_order_seq_cst);
	if (n && sq_flags(ring) & IORING_SQ_NEED_WAKEUP)
		ret = syscall(__NR_io_uring_enter, ring->ring.ring_fd, 0, 0, IORING_ENTER_SQ_WAKEUP, NULL, 0) < 0 ? -errno : 0;
	if (!ret && work_pending(ring))
		ret = io_uring_get_events(&ring->ring);
	return ret == -EINTR || ret == -EBUSY || ret == -EBADR ? 0 : ret;
}

/* Hand queued entries to the kernel and let it run deferred work or poll, without waiting. 0, or a negative errno. */
static int ring_enter(struct aionvme_ring *ring)
{
	int ret;

	if (ring->latencies)
		stamp(ring);
	if (has_thread(ring))
		return hand_over(ring);
	do
		ret = io_uring_submit_and_get_events(&ring->ring);
	while (ret == -EINTR);
	/*
	 * No memory for a request, or completions to be reaped first: what was queued stays queued for the next tick. The kernel
	 * gives up before it runs deferred work then, which is what would make room, so ask for that alone.
	 */
	if (ret == -EAGAIN || ret == -EBUSY) {
		ret = io_uring_get_events(&ring->ring);
		if (ret == -EINTR || ret == -EBUSY)
			return 0;
	}
	/* A lost completion. The kernel says so once, and only to a polled ring; the count that tick looks at stays. */
	if (ret == -EBADR)
		return 0;
	if (ret < 0)
		return ret;
	ring->in_flight += ret;
	ring->submitted += ret;
	return 0;
}

/* The batch that a completion belongs to, or NULL. */
static struct aionvme_batch *batch_of(const struct aionvme_ring *ring, const struct io_uring_cqe *cqe)
{
	return cqe->user_data & AIONVME_BATCH_USER_DATA ? ring->batches[cqe->user_data >> SLOT_SHIFT & (BATCHES - 1)] : NULL;
}

static void store(struct aionvme_ring *ring, struct aionvme_batch *batch, const struct io_uring_cqe *cqe, uint64_t now)
{
	struct aionvme_completion *completion = &batch->completions[(uint32_t)cqe->user_data];

	ring->batched--;
	completion->status = cqe->res > 0 ? cqe->res : 0;
	completion->error = cqe->res < 0 ? -cqe->res : 0;
	completion->result = cqe->big_cqe[0];
	if (ring->latencies && completion->latency_ns >= ring->recording_since)
		count(ring->latencies, now - completion->latency_ns);
	completion->latency_ns = now - completion->latency_ns;
	if (++batch->completed == batch->n)
		end_batch(ring, batch);
}

/* Count the latency of a command that came one by one. */
static void record(struct aionvme_ring *ring, const struct io_uring_cqe *cqe, uint64_t now)
{
	const unsigned slot = slot_of(ring, cqe->user_data);

	if (slot == ring->depth || !ring->submitted_ns[slot])
		return;
	count(ring->latencies, now - ring->submitted_ns[slot]);
	ring->submitted_ns[slot] = 0;
}

/* Take completions until max have been stored in cqes; those of batches go to them. Returns how many were taken in all. */
static unsigned reap(struct aionvme_ring *ring, struct aionvme_cqe *cqes, unsigned max, unsigned *stored, uint64_t now)
{
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	*stored = 0;
	io_uring_for_each_cqe(&ring->ring, head, cqe) {
		struct aionvme_batch *batch = batch_of(ring, cqe);

		if (batch)
			store(ring, batch, cqe, now);
		else if (*stored == max)
			break;
		else
			memcpy(&cqes[(*stored)++], cqe, sizeof(*cqes));
		if (!batch && ring->latencies)
			record(ring, cqe, now);
		n++;
	}
	/* The store-release in here gives the slots back to the kernel, so it comes after the copies. */
	io_uring_cq_advance(&ring->ring, n);
	/* A completion reaped in the enter that submitted it is counted before it is subtracted: never below zero. */
	ring->in_flight -= n;
	ring->reaped += n;
	return n;
}

/*
 * After a polled ring was entered: when to ask it again, which is worth it as soon as something has completed. Nobody tells when that
 * was, only whether the first asking was too early. So the wait for that grows by an eighth when it was, and shrinks by a 256th
 * when it was not, which keeps first askings in vain at one in thirty or so. A command that takes longer than others is asked
 * for again, each time twice as much later, and says nothing of those to come. No completion waits longer than the longest wait.
 */
static void plan_poll(struct aionvme_ring *ring, unsigned found, bool submitted)
{
	uint64_t *wait = &ring->poll_wait_ns, next = *wait;

	if (!submitted) {
		ring->polls.polls++;
		ring->polls.empty += !found;
	}
	if (found && !ring->again_ns)
		*wait -= *wait / 256;
	else if (!found && !submitted && !ring->again_ns)
		*wait = least(*wait + *wait / 8 + POLL_STEP_NS, POLL_WAIT_MAX_NS);
	if (found || submitted)
		ring->again_ns = 0;
	else
		next = ring->again_ns = least(ring->again_ns ? 2 * ring->again_ns : *wait / 4 + POLL_STEP_NS, POLL_AGAIN_MAX_NS);
	ring->poll_ns = now_ns() + next;
}

/*
 * Whether a polled ring may be asked for completions: what has been posted is reaped first. Who takes none, a max of 0, waits for
 * those of batches, which are taken as they come.
 */
static bool may_poll(const struct aionvme_ring *ring, unsigned max)
{
	return ring->ring.flags & IORING_SETUP_IOPOLL && !has_thread(ring) && ring->in_flight &&
	       io_uring_cq_ready(&ring->ring) < (max ? max : 1);
}

/* Enter the kernel if there is a reason to. Returns whether it was entered, or a negative errno. */
static int enter_if_needed(struct aionvme_ring *ring, unsigned max)
{
	const bool submit = ready(ring);
	const unsigned found = io_uring_cq_ready(&ring->ring);
	int ret;

	if (!submit && !work_pending(ring)) {
		if (!may_poll(ring, max))
			return 0;
		if (now_ns() < ring->poll_ns) {
			ring->polls.spared += !found;
			return 0;
		}
	}
	ret = ring_enter(ring);
	if (ret < 0)
		return ret;
	if (ring->ring.flags & IORING_SETUP_IOPOLL && !has_thread(ring))
		plan_poll(ring, io_uring_cq_ready(&ring->ring) - found, submit);
	return 1;
}

/* A moment in which the processor's other thread may run. */
static void relax(void)
{
#if defined(__x86_64__)
	__asm__ volatile("pause" ::: "memory");
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}

/*
 * Wait until the next tick has something to do, or until a time. A ring with interrupts sleeps, where that is long enough; where a
 * thread submits, not at once, for what was handed over to it may be about to complete.
 */
static bool wait_until(struct aionvme_ring *ring, uint64_t end, bool sleep)
{
	const uint64_t awake = has_thread(ring) ? now_ns() + THREAD_NS : 0;

	while (!io_uring_cq_ready(&ring->ring) && !work_pending(ring) && !(ring->unsubmitted && room(ring))) {
		const uint64_t now = now_ns();

		if (may_poll(ring, 1) && now >= ring->poll_ns)
			break;
		if (now >= end)
			return false;
		if (sleep && !(ring->ring.flags & IORING_SETUP_IOPOLL) && now >= awake) {
			struct __kernel_timespec left = { .tv_nsec = end - now };
			struct io_uring_cqe *cqe;

			io_uring_wait_cqe_timeout(&ring->ring, &cqe, &left);
		} else {
			relax();
		}
	}
	return true;
}

/* Go on with batches, and return whether they got on: when one has ended, a single entry completed, or the time is over. */
static bool go_on(struct aionvme_ring *ring)
{
	const uint64_t end = now_ns() + AIONVME_TICK_NS;
	const unsigned under_way = ring->under_way;
	const uint64_t reaped = ring->reaped;
	unsigned accepted;
	int ret = 0;

	while (wait_until(ring, end, true) && (ret = aionvme_ring_tick(ring, NULL, 0, &accepted, NULL, 0)) >= 0 &&
	       ring->under_way == under_way && !io_uring_cq_ready(&ring->ring) && now_ns() < end)
		;
	/* What was reaped may have made room, and an error comes again: the caller must not go to sleep over either. */
	return ret < 0 || ring->reaped != reaped || io_uring_cq_ready(&ring->ring);
}

int aionvme_ring_linger(struct aionvme_ring *ring, uint64_t ns)
{
	if (ring->skip) {
		ring->skip--;
		return 0;
	}
	if (ring->under_way ? go_on(ring) : wait_until(ring, now_ns() + ns, false)) {
		ring->vain = 0;
		return 1;
	}
	ring->vain += ring->vain < VAIN_MAX;
	ring->skip = 1u << ring->vain;
	return 0;
}

int aionvme_ring_tick(struct aionvme_ring *ring, const struct aionvme_sqe *sqes, unsigned n, unsigned *accepted,
		      struct aionvme_cqe *cqes, unsigned max)
{
	unsigned reaped = 0, taken = 0, enters = 0;
	const uint64_t deadline = ring->unsubmitted ? now_ns() + AIONVME_TICK_NS : 0;
	uint64_t now = 0;
	bool more;

	*accepted = fill(ring, sqes, n);
	do {
		unsigned stored, got;
		int entered;

		if (ring->unsubmitted)
			fill_from_batches(ring, now_ns());
		entered = enter_if_needed(ring, max);
		/* What was reaped must reach the caller; the error comes again. */
		if (entered < 0)
			return reaped ? (int)reaped : entered;
		enters += entered;
		if (ring->under_way || ring->latencies)
			now = now_ns();
		got = reap(ring, cqes + reaped, max - reaped, &stored, now);
		reaped += stored;
		taken += got;
		/* On with a batch as long as it gets on; or the kernel has more to do, of which one enter does a bounded amount. */
		more = (got > stored && ring->unsubmitted && now < deadline) || (work_pending(ring) && enters < ENTERS_PER_TICK);
	} while (reaped < max && more);
	if (taken)
		return reaped;
	if (aionvme_ring_overflow(ring))
		return -EBADR;
	/*
	 * The kernel looks at EVENTFD_DISABLED first and signals then, so that the signal of a completion which was reaped meanwhile can
	 * come after the disarming. Left there, it would wake an idle loop over and over. Such a loop ends up here; while commands are in
	 * flight the next arm and disarm take the signal away.
	 */
	if (!ring->in_flight && ring->eventfd >= 0)
		aionvme_ring_disarm(ring);
	return 0;
}
