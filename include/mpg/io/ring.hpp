// The two queues that a process shares with the kernel: io_uring without any policy.
//
// liburing maps and unmaps them and makes the system calls; the queues themselves are handled here, because
// several threads submit (under a lock of the caller) while another reaps, which liburing's inline functions
// do not foresee.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/io/liburing.hpp>
#include <mpg/io/syscall.hpp>

#include <algorithm>
#include <cstring>

#if defined(MPG_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

#if !defined(MPG_IO_SYSCALLS) // see syscall.hpp
namespace mpg::io::sys::os {
using ::io_uring_enter2;
} // namespace mpg::io::sys::os
#endif

namespace mpg::io {

class ring {
  public:
    ring() = default;
    ring(const ring&) = delete;
    ring& operator=(const ring&) = delete;
    ~ring() {
        if (!open_) return;
#if defined(MPG_TSAN)
        __tsan_release(mapped());
#endif
        ::io_uring_queue_exit(&r_);
    }

    /// 0 or -errno. Completions may be posted by any thread that has submitted, whenever it enters the
    /// kernel, and are never deferred to one thread: a submitter that computes or blocks for long does not
    /// hold them up. (Hence neither SINGLE_ISSUER nor DEFER_TASKRUN.) A thread that has submitted must not
    /// exit before the completion.
    outcome open(unsigned entries, unsigned completions) noexcept {
        ::io_uring_params p{};
        p.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CLAMP |
                  IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE;
        p.cq_entries = completions;
        if (int e = ::io_uring_queue_init_params(entries, &r_, &p); e < 0) return e;
#if defined(MPG_TSAN)
        __tsan_acquire(mapped());
#endif
        open_ = true;
        constexpr unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_SUBMIT_STABLE;
        if ((p.features & needed) != needed) return -ENOSYS;
        entries_ = p.sq_entries;
        sq_mask_ = p.sq_entries - 1;
        cq_mask_ = p.cq_entries - 1;
        if (r_.sq.array)
            for (unsigned i = 0; i != entries_; ++i) r_.sq.array[i] = i;
        tail_ = *r_.sq.ktail;
        return 0;
    }

    // Submitting: under the caller's lock.

    bool full() const noexcept { return tail_ - load(r_.sq.khead) >= entries_; }
    /// A cleared entry, sent off by publish. Precondition: not full().
    ::io_uring_sqe& next() noexcept {
        ::io_uring_sqe& e = r_.sq.sqes[tail_ & sq_mask_];
        std::memset(static_cast<void*>(&e), 0, sizeof e);
        return e;
    }
    void publish() noexcept { store(r_.sq.ktail, ++tail_); }

    // From any thread.

    /// Entries that the kernel has not taken yet.
    unsigned pending() const noexcept { return load(r_.sq.ktail) - load(r_.sq.khead); }
    bool completions() const noexcept { return load(r_.cq.ktail) != load(r_.cq.khead); }
    /// The kernel wants to be entered, so that it can post completions.
    bool wants_enter() const noexcept {
        return __atomic_load_n(r_.sq.kflags, __ATOMIC_RELAXED) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
    }
    /// There are completions that found no place in the queue.
    bool overflowed() const noexcept {
        return __atomic_load_n(r_.sq.kflags, __ATOMIC_RELAXED) & IORING_SQ_CQ_OVERFLOW;
    }
    /// Takes what is pending. Several threads may do so at once. The calling thread becomes the submitter.
    outcome submit(bool get_events) noexcept {
        return sys::os::io_uring_enter2(static_cast<unsigned>(r_.ring_fd), pending(), 0,
                                 get_events ? IORING_ENTER_GETEVENTS : 0u, nullptr, _NSIG / 8);
    }
    /// Takes what is pending and waits for a completion or until then. -ETIME and -EINTR are normal.
    outcome submit_and_wait(base::nanos until) noexcept {
        ::__kernel_timespec ts{};
        ::io_uring_getevents_arg arg{};
        if (until != base::never) {
            const base::nanos now = base::now(), left = until > now ? until - now : 0;
            ts.tv_sec = left / 1'000'000'000;
            ts.tv_nsec = left % 1'000'000'000;
            arg.ts = reinterpret_cast<__u64>(&ts);
        }
        arg.sigmask_sz = _NSIG / 8;
        return sys::os::io_uring_enter2(static_cast<unsigned>(r_.ring_fd), pending(), 1,
                                 IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
                                 reinterpret_cast<::sigset_t*>(&arg), sizeof arg);
    }

    /// Reaping: one thread at a time. Calls f(user_data, res, flags) for each completion, of which it leaves
    /// those beyond `most` there, unless the queue is getting full; returns how many.
    template <class F> int reap(unsigned most, F f) noexcept {
        unsigned head = __atomic_load_n(r_.cq.khead, __ATOMIC_RELAXED);
        int n = 0;
        for (unsigned left = most, tail; left != 0 && head != (tail = load(r_.cq.ktail));) {
            if (tail - head > left && tail - head <= cq_mask_ / 2) tail = head + left;
            left -= std::min(left, tail - head);
            for (; head != tail; ++n) {
                const ::io_uring_cqe c = r_.cq.cqes[head++ & cq_mask_];
                f(c.user_data, sys::os::ring_result(c.res), c.flags);
            }
            store(r_.cq.khead, head);
        }
        return n;
    }

  private:
#if defined(MPG_TSAN)
    // liburing's system calls are its own, so ThreadSanitizer does not see that a ring was unmapped before another one came
    // to its place: whoever closes one tells all who open one.
    static void* mapped() noexcept {
        static char any;
        return &any;
    }
#endif
    // acquire and release pair with the kernel's on the other side of the queue.
    static unsigned load(const unsigned* p) noexcept { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static void store(unsigned* p, unsigned v) noexcept { __atomic_store_n(p, v, __ATOMIC_RELEASE); }

    ::io_uring r_{};
    bool open_ = false;
    unsigned entries_ = 0, sq_mask_ = 0, cq_mask_ = 0;
    unsigned tail_ = 0; // as *ktail; guarded by the caller's lock
};

} // namespace mpg::io
