/* SPDX-License-Identifier: MIT */
/*
 * The native core of aionvme: one io_uring ring with 128-byte submission and 32-byte completion entries.
 *
 * It moves entries in batches and knows nothing of NVMe: what the 80 command bytes of an entry mean, who waits for it and who
 * owns its buffers is the caller's. No function here takes a lock or keeps a pointer into the caller's memory after it returns;
 * one thread, the one that opened the ring, may call them.
 *
 * Every function that can fail returns a negative errno.
 */
#ifndef AIONVME_CORE_H
#define AIONVME_CORE_H

#include <stdbool.h>
#include <stdint.h>

#define AIONVME_SQE_BYTES 128
#define AIONVME_CQE_BYTES 32

/* user_data with this bit belongs to batches: entries must not have it. */
#define AIONVME_BATCH_USER_DATA (1ULL << 63)

#define AIONVME_TICK_NS 300000

/* While latencies are recorded, this many low bits of user_data tell entries in flight apart, and are below the ring's size. */
#define AIONVME_SLOT_BITS 16

/* 128 buckets for each power of two from 128 ns on, one for each nanosecond below: see aionvme_latency_bucket(). */
#define AIONVME_LATENCY_BUCKETS 7424

/* In uring_cmd_flags: the command goes to the ring's own hardware queue. Mainline kernels use this bit for something else. */
#define AIONVME_URING_CMD_DIRECT (1U << 1)

/* A whole submission queue entry, laid out by the caller as struct io_uring_sqe with its 80 command bytes. */
struct aionvme_sqe {
	uint8_t bytes[AIONVME_SQE_BYTES];
};

/* A whole completion queue entry: struct io_uring_cqe with its two big_cqe words. */
struct aionvme_cqe {
	uint64_t user_data;
	int32_t res;
	uint32_t flags;
	uint64_t big_cqe[2];
};

/* How a command of a batch ended. */
struct aionvme_completion {
	uint16_t status; /* res of its completion, where that is positive */
	uint16_t error;	 /* the errno in res, where that is negative */
	uint32_t reserved;
	uint64_t result; /* big_cqe[0] */
	uint64_t latency_ns; /* from the tick that submitted it to the one that reaped it */
};

/* A field in which the entries of a batch differ. */
struct aionvme_column {
	uint32_t offset; /* in the entry */
	uint32_t width;	 /* 1, 2, 4 or 8 bytes */
	uint64_t stride; /* from the value of one entry to that of the next */
	const uint8_t *values;
};

/*
 * Many entries that are handed over at once: submitted as there is room, completions stored by position. All of it is the caller's
 * memory, which has to stay where it is until @completed is @n.
 */
struct aionvme_batch {
	struct aionvme_sqe entry; /* what they have in common; user_data and the columns are filled in */
	const struct aionvme_column *columns;
	uint32_t n_columns;
	uint32_t n;
	struct aionvme_completion *completions;
	uint32_t submitted; /* the rest is the ring's */
	uint32_t completed;
	uint32_t slot;
};

/* How long entries took, from the tick that submitted them to the one that reaped them. */
struct aionvme_latencies {
	uint64_t counts[AIONVME_LATENCY_BUCKETS];
	uint64_t total_ns;
	uint64_t max_ns;
};

struct aionvme_ring;

/*
 * aionvme_ring_open() - Create a ring.
 * @entries:    Size of the submission queue, rounded up by the kernel to a power of two.
 * @cq_entries: Size of the completion queue, not below @entries.
 * @iopoll:     Complete by polling (IORING_SETUP_IOPOLL) instead of interrupts.
 * @out:        Where the new ring is stored.
 *
 * Asks for SINGLE_ISSUER and DEFER_TASKRUN, and does without where the kernel is too old for them.
 *
 * Return: 0, or the errno of io_uring_setup: -ENOSYS, -EPERM where it is switched off, -ENOMEM, -EINVAL before 5.19.
 */
int aionvme_ring_open(unsigned entries, unsigned cq_entries, bool iopoll, struct aionvme_ring **out);

/*
 * aionvme_ring_open_sqpoll() - The same with a thread of the kernel's that submits, and polls (IORING_SETUP_SQPOLL).
 * @idle_ms: How long the thread, which takes a processor for itself, looks for entries before it goes to sleep.
 *
 * Such a ring is entered only to wake the thread. Whoever waits for completions of a polled one finds them, or has to look again.
 */
int aionvme_ring_open_sqpoll(unsigned entries, unsigned cq_entries, bool iopoll, unsigned idle_ms, struct aionvme_ring **out);

/*
 * aionvme_ring_close() - Unmap and close a ring.
 *
 * A hardware queue that was registered is free for the next ring when this returns, if nothing is in flight.
 *
 * Note: Commands in flight are left to a kernel worker, which goes on writing to their buffers. Reap them first.
 */
void aionvme_ring_close(struct aionvme_ring *ring);

/* aionvme_ring_flags() - The IORING_SETUP flags the ring was created with. */
unsigned aionvme_ring_flags(const struct aionvme_ring *ring);

/* aionvme_ring_overflow() - Completions the kernel dropped for want of room; anything but 0 means lost commands. */
unsigned aionvme_ring_overflow(const struct aionvme_ring *ring);

/* aionvme_ring_register_files() - Register @n files; an entry names one by index with IOSQE_FIXED_FILE. */
int aionvme_ring_register_files(struct aionvme_ring *ring, const int *fds, unsigned n);

/* aionvme_ring_reserve_buffers() - Make an empty table of @n registered buffers. */
int aionvme_ring_reserve_buffers(struct aionvme_ring *ring, unsigned n);

/*
 * aionvme_ring_set_buffer() - Put a buffer into the table, or with @len 0 take one out.
 *
 * Note: The kernel keeps a buffer's pages pinned until the last command that uses it has completed, even when taken out before.
 */
int aionvme_ring_set_buffer(struct aionvme_ring *ring, unsigned index, void *addr, uint64_t len);

/*
 * aionvme_ring_register_queue() - Give a polled ring a hardware queue of its own (IORING_REGISTER_QUEUE).
 * @index: The registered file whose controller the queue is to be of.
 *
 * Only for kernels on which aionvme_ring_unregister_queue() returns 0: on others the number of this call means something else, and
 * the argument is made so that those refuse it. Entries with AIONVME_URING_CMD_DIRECT go to the queue; it is given back by
 * aionvme_ring_close().
 *
 * Return: 0, -EINVAL where no queue is free, -EACCES without CAP_SYS_ADMIN, -EBADF, -ENOMEM.
 */
int aionvme_ring_register_queue(struct aionvme_ring *ring, int32_t index);

/*
 * aionvme_ring_unregister_queue() - Give the ring's hardware queue back (IORING_UNREGISTER_QUEUE).
 *
 * On a ring that has none this is a safe question whether the kernel knows of such queues at all.
 *
 * Return: 0, also where there is no queue, or -EINVAL on a kernel without them.
 */
int aionvme_ring_unregister_queue(struct aionvme_ring *ring);

/*
 * aionvme_ring_register_eventfd() - Create an eventfd that completions make readable while it is armed. It starts disarmed.
 *
 * Return: the file descriptor, which belongs to the ring and is closed with it, or a negative errno.
 */
int aionvme_ring_register_eventfd(struct aionvme_ring *ring);

/*
 * aionvme_ring_arm() - Let completions signal the eventfd, before sleeping on it.
 *
 * Return: 1 where something is there to be reaped already (do not sleep: tick again), otherwise 0.
 */
int aionvme_ring_arm(struct aionvme_ring *ring);

/*
 * aionvme_ring_disarm() - Stop signalling the eventfd and make it unreadable again.
 *
 * Note: A signal that is under way already can still come. A tick with nothing in flight takes it away.
 */
void aionvme_ring_disarm(struct aionvme_ring *ring);

/*
 * aionvme_ring_add_batch() - Hand a batch over: ticks submit and reap it, after the entries they are given.
 *
 * Return: 0, or -EBUSY where as many batches are under way as there can be.
 */
int aionvme_ring_add_batch(struct aionvme_ring *ring, struct aionvme_batch *batch);

/*
 * aionvme_ring_stop_batch() - Submit no more of a batch: @n becomes what has been submitted.
 *
 * Return: 1 where nothing of it is in flight, otherwise 0.
 */
int aionvme_ring_stop_batch(struct aionvme_ring *ring, struct aionvme_batch *batch);

/*
 * aionvme_ring_next_sqe() - The next free entry of the submission queue, to be filled as a whole; the next tick submits it.
 *
 * Return: the entry, or NULL where the queue is full: tick first.
 */
struct aionvme_sqe *aionvme_ring_next_sqe(struct aionvme_ring *ring);

/*
 * aionvme_ring_tick() - Submit entries, run the ring's deferred work, reap completions. Never blocks.
 * @sqes:     Entries to submit; copied, so that the caller may reuse the array at once.
 * @n:        How many there are.
 * @accepted: Set to how many of them were taken into the submission queue; offer the rest again on the next tick.
 * @cqes:     Where completions go.
 * @max:      How many of them at most. With 0 the tick submits, and completes batches.
 *
 * Batches fill up what is in flight to the size that the submission queue was asked for, and have a quarter of that in any case.
 * While one makes progress, the tick goes on with it for up to AIONVME_TICK_NS.
 *
 * A polled ring that has nothing to submit is asked for completions when there is likely to be one: some microseconds sooner after
 * the asking was worth it, later after it was in vain.
 *
 * An entry that was accepted but that the kernel had no room for (-EAGAIN, -EBUSY) stays queued and is submitted by a later
 * tick; see aionvme_ring_queued().
 *
 * Return: the number of completions stored, or the errno of io_uring_enter; -EEXIST from a thread that is not the ring's own,
 * -EBADR where a completion was lost, from the first tick that finds no other left.
 */
int aionvme_ring_tick(struct aionvme_ring *ring, const struct aionvme_sqe *sqes, unsigned n, unsigned *accepted,
		      struct aionvme_cqe *cqes, unsigned max);

/* aionvme_latency_bucket() - Which of the counts is that of a latency. */
unsigned aionvme_latency_bucket(uint64_t ns);

/*
 * aionvme_ring_record() - Count latencies of the entries submitted from now on, or with NULL no more.
 * @to: The caller's memory, which has to stay where it is until then.
 *
 * Return: 0, or -ENOMEM.
 */
int aionvme_ring_record(struct aionvme_ring *ring, struct aionvme_latencies *to);

/* How often a polled ring was entered only to ask for completions. */
struct aionvme_polls {
	uint64_t polls;
	uint64_t empty;	 /* polls that found none */
	uint64_t spared; /* ticks that did not poll, because it was too early */
};

/* aionvme_ring_polls() - What polling a ring has come to since it was opened. */
struct aionvme_polls aionvme_ring_polls(const struct aionvme_ring *ring);

/*
 * aionvme_ring_linger() - Wait a moment for a completion, where that is likely to be shorter than going to sleep.
 * @ns: The longest moment.
 *
 * With a batch under way it goes on with that instead, sleeping while there is nothing to do, for up to AIONVME_TICK_NS.
 *
 * Where lingering has been in vain, some of the calls that follow return at once; more of them each time.
 *
 * Return: 1 where the next tick has something to do, otherwise 0.
 */
int aionvme_ring_linger(struct aionvme_ring *ring, uint64_t ns);

/* aionvme_ring_submitted() - Entries that the kernel has taken since the ring was opened. */
uint64_t aionvme_ring_submitted(const struct aionvme_ring *ring);

/* aionvme_ring_busy() - Whether an entry is to be submitted or in flight. */
bool aionvme_ring_busy(const struct aionvme_ring *ring);

/* aionvme_ring_queued() - Entries that the kernel has not yet taken, and for which there is room. */
unsigned aionvme_ring_queued(const struct aionvme_ring *ring);

#endif
