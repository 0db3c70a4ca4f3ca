"""Builds ``aionvme._core``, the cffi binding of the native core (API mode: the compiler supplies sizes and constants)."""

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent

ffibuilder = FFI()
ffibuilder.cdef("""
    struct aionvme_sqe { uint8_t bytes[...]; };
    struct aionvme_cqe { uint64_t user_data; int32_t res; uint32_t flags; uint64_t big_cqe[2]; };
    struct aionvme_completion {
        uint16_t status; uint16_t error; uint32_t reserved; uint64_t result; uint64_t latency_ns;
    };
    struct aionvme_column { uint32_t offset; uint32_t width; uint64_t stride; const uint8_t *values; };
    struct aionvme_batch {
        struct aionvme_sqe entry;
        const struct aionvme_column *columns; uint32_t n_columns;
        uint32_t n;
        struct aionvme_completion *completions;
        uint32_t submitted; uint32_t completed; ...;
    };
    struct aionvme_polls { uint64_t polls; uint64_t empty; uint64_t spared; };
    struct aionvme_latencies { uint64_t counts[...]; uint64_t total_ns; uint64_t max_ns; };
    struct aionvme_ring;

    int aionvme_ring_open(unsigned entries, unsigned cq_entries, bool iopoll, struct aionvme_ring **out);
    int aionvme_ring_open_sqpoll(unsigned entries, unsigned cq_entries, bool iopoll, unsigned idle_ms,
                                 struct aionvme_ring **out);
    void aionvme_ring_close(struct aionvme_ring *ring);
    unsigned aionvme_ring_flags(const struct aionvme_ring *ring);
    unsigned aionvme_ring_overflow(const struct aionvme_ring *ring);
    int aionvme_ring_register_files(struct aionvme_ring *ring, const int *fds, unsigned n);
    int aionvme_ring_reserve_buffers(struct aionvme_ring *ring, unsigned n);
    int aionvme_ring_set_buffer(struct aionvme_ring *ring, unsigned index, void *addr, uint64_t len);
    int aionvme_ring_register_queue(struct aionvme_ring *ring, int32_t index);
    int aionvme_ring_unregister_queue(struct aionvme_ring *ring);
    int aionvme_ring_register_eventfd(struct aionvme_ring *ring);
    int aionvme_ring_arm(struct aionvme_ring *ring);
    void aionvme_ring_disarm(struct aionvme_ring *ring);
    int aionvme_ring_tick(struct aionvme_ring *ring, const struct aionvme_sqe *sqes, unsigned n, unsigned *accepted,
                          struct aionvme_cqe *cqes, unsigned max);
    int aionvme_ring_add_batch(struct aionvme_ring *ring, struct aionvme_batch *batch);
    int aionvme_ring_stop_batch(struct aionvme_ring *ring, struct aionvme_batch *batch);
    uint64_t aionvme_ring_submitted(const struct aionvme_ring *ring);
    int aionvme_ring_record(struct aionvme_ring *ring, struct aionvme_latencies *to);
    struct aionvme_polls aionvme_ring_polls(const struct aionvme_ring *ring);
    int aionvme_ring_linger(struct aionvme_ring *ring, uint64_t ns);
    unsigned aionvme_latency_bucket(uint64_t ns);
    bool aionvme_ring_busy(const struct aionvme_ring *ring);
    unsigned aionvme_ring_queued(const struct aionvme_ring *ring);

    void aionvme_guards(const uint8_t *data, uint64_t data_stride, uint32_t data_len, const uint8_t *metadata,
                        uint64_t metadata_stride, uint32_t metadata_len, uint32_t n, uint16_t *guards);

    struct timespec { long tv_sec; long tv_nsec; ...; };
    struct itimerspec { struct timespec it_value; ...; };
    int timerfd_create(int clockid, int flags);
    int timerfd_settime(int fd, int flags, const struct itimerspec *new_value, struct itimerspec *old_value);

    #define AIONVME_LATENCY_BUCKETS ...
    #define IORING_SETUP_IOPOLL ...
    #define IORING_SETUP_DEFER_TASKRUN ...
    #define IORING_URING_CMD_FIXED ...
    #define AIONVME_URING_CMD_DIRECT ...
    #define IOSQE_FIXED_FILE ...
    #define NVME_URING_CMD_IO ...
    #define NVME_URING_CMD_IO_VEC ...
    #define NVME_URING_CMD_ADMIN ...
    #define NVME_URING_CMD_ADMIN_VEC ...
    #define NVME_IOCTL_ID ...
    #define NVME_IOCTL_ADMIN64_CMD ...
    #define CLOCK_MONOTONIC ...
    #define TFD_NONBLOCK ...
    #define TFD_CLOEXEC ...
    #define TFD_TIMER_ABSTIME ...
    static const int IORING_OP_NOP;
    static const int IORING_OP_URING_CMD;
""")
ffibuilder.set_source(
    "aionvme._core",
    """
    #include "core.h"
    #include "guard.h"
    #include <liburing.h>
    #include <linux/nvme_ioctl.h>
    #include <sys/timerfd.h>
    #include <time.h>
    """,
    sources=["_native/core.c", "_native/guard.c"],
    include_dirs=[str(HERE)],
    depends=["_native/core.h", "_native/guard.h"],
    libraries=["uring"],
    extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra"],
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=str(HERE.parent), verbose=True)
