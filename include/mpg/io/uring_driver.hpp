// The poller on io_uring: one ring per processor.
//
// Submissions are collected in the ring and handed to the kernel once per scheduling round (poll), or when
// there are many. Any machine may reap. An operation's user_data is its address: it stays parked until its
// own final completion, so the address cannot be reused before. A cancel stands behind its operation in the
// same ring and before any later operation at the same address, and the kernel takes submissions in order: it
// can hit only the one that it is for.
//
// Sleeping. state_ says whether a wake() must spend a system call:
//   running:  nobody waits.      poll -> waiting;  wake -> notified
//   waiting:  a machine waits, or is about to, in the kernel. poll, on return -> running;  wake -> notified +
//   eventfd notified: a wake that no wait has seen yet. The next poll that would wait returns at once ->
//   running
// All transitions are exchanges on one word: either the waker sees `waiting`, or the sleeper sees `notified`.
// A poll that does not wait leaves the word alone, since it may run for another than the one whom the wake is
// for. The eventfd is watched by a one-shot poll that the sleeper itself submits: a request is completed in
// the context of the thread that has submitted it, which would have to be woken first if it were another one.
#pragma once

#include <mpg/base/spinlock.hpp>
#include <mpg/io/descriptor.hpp>
#include <mpg/io/driver.hpp>
#include <mpg/io/ring.hpp>
#include <mpg/sched/runtime_state.hpp>

#include <algorithm>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>

namespace mpg::io {

class uring_driver final : public driver, public canceller {
  public:
    ~uring_driver() override {
        if (event_ >= 0) sys::close(event_);
    }

    /// 0 or -errno. check: try what is needed with real operations, as a system-call filter may let the ring
    /// be made and nothing be done with it.
    outcome open(bool check) noexcept {
        outcome e = -ENOMEM;
        // Some kernels charge rings to RLIMIT_MEMLOCK: ask for less then.
        for (unsigned n = 128; n >= 32 && e == -ENOMEM; n /= 2) e = ring_.open(n, n * 8);
        if (e < 0) return e;
        event_ = make_event();
        if (event_ < 0) return event_;
        return check ? try_out() : 0;
    }

    netpoll kind() const noexcept override { return netpoll::io_uring; }
    bool has_work() const noexcept override {
        return ring_.completions() || ring_.pending() != 0 || ring_.wants_enter() || left_.load(std::memory_order_relaxed) != 0;
    }
    bool busy() const noexcept override {
        // acquire: whoever sees the completion counted sees what its strand was readied with.
        return completed_.load(std::memory_order_acquire) != started_.load(std::memory_order_relaxed);
    }
    void wake() noexcept override {
        if (state_.exchange(notified, std::memory_order_seq_cst) == waiting) write_event(event_);
    }

    int poll(base::nanos until) noexcept override {
        if (until == 0 || ring_.completions()) return poll_now();
        std::uint32_t expected = running;
        if (!state_.compare_exchange_strong(expected, waiting,
                                            std::memory_order_seq_cst)) { // pairs with: wake
            state_.store(running, std::memory_order_seq_cst);
            return poll_now();
        }
        watch_event();
        int n = 0;
        for (woken_ = false; n == 0 && !woken_;) {
            const outcome e = ring_.submit_and_wait(until);
            n = reap();
            if (e < 0) break; // time is up, a signal; anything else: let the scheduler decide and come back
        }
        state_.exchange(running, std::memory_order_seq_cst); // pairs with: rouse
        return left_.load(std::memory_order_relaxed) != 0 ? n + poll_now() : n;
    }

    void start(operation& op) noexcept override {
        // relaxed: who left a cancel of an operation at this address let its strand go after that.
        if (left_.load(std::memory_order_relaxed) != 0) [[unlikely]]
            take_left();
        ::io_uring_sqe& e = claim();
        if (!op.arm(*this)) {
            lock_.unlock();
            op.finish(-ECANCELED);
            return;
        }
        fill(e, op);
        started_.store(started_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        ring_.publish();
        lock_.unlock();
        // From here on the operation may be over.
        if (ring_.pending() >= flush_at || state_.load(std::memory_order_relaxed) == waiting)
            ring_.submit(false);
    }

    // Left to the next round of this processor when it is the caller's own, and to the batch when it is another of his
    // runtime (then a context that ends a thousand operations costs few system calls), else not: nobody may look at
    // this ring for long. If that makes a thread the submitter of other operations that soon ends, these fail with
    // ECANCELED though nobody kicked them, and their strands start them again.
    // A batch leaves the whole work to the machine that waits in this ring, and wakes it: that must be anyway, and two that
    // are in the kernel with one ring spin for each other. What is still there in the end the batch does itself, unless
    // that machine waits again.
    void cancel(operation& op) noexcept override {
        const bool own = serves_this_task();
        if (!own && leave(op)) return;
        fill_cancel(claim(), &op);
        const bool sent_later = own ? state_.load(std::memory_order_relaxed) != waiting : in_batch();
        lock_.unlock();
        if (!sent_later || ring_.pending() >= flush_at) ring_.submit(false);
    }
    void flush() noexcept override {
        lock_.lock();
        in_batch_ = false; // what others publish from now on, they or their batch will submit
        lock_.unlock();
        if (left_.load(std::memory_order_relaxed) != 0 && !rouse()) take_left();
        if (ring_.pending() != 0) ring_.submit(false);
    }

    outcome prepare(descriptor&) noexcept override { return 0; }
    bool batching() const noexcept override { return ring_.pending() != 0; }

  private:
    static constexpr std::uint32_t running = 0, waiting = 1, notified = 2;
    static constexpr unsigned flush_at = 64;
    static constexpr std::uint32_t leave_most = 512, rouse_at = 32; // cancels
    /// Completions for one poll: half as many as tasks run until the next one, so that the processor's run
    /// queue does not fill up. What is left waits here, in order; tasks that find no room there are overtaken.
    static constexpr unsigned reap_most = 32;
    // user_data: an operation is aligned, so that the low bits tell what it is.
    static constexpr __u64 tag_mask = 7, ignored = 1, event_tag = 2;
    static_assert(alignof(operation) > tag_mask);

    bool serves_this_task() const noexcept {
        const sched::machine* m = sched::this_machine();
        return m && m->p && m->p->poll.get() == this;
    }

    /// Wakes the machine that waits; false: none does. One that has been told already may be through with its look.
    bool rouse() noexcept {
        std::uint32_t expected = waiting;
        if (!state_.compare_exchange_strong(expected, notified, std::memory_order_seq_cst)) return false; // pairs with: poll
        write_event(event_);
        return true;
    }

    /// op's cancel is left to the next poll here, or to flush. False: there is no batch, or no room.
    bool leave(const operation& op) noexcept {
        lock_.lock();
        const std::uint32_t n = left_.load(std::memory_order_relaxed);
        const bool ok = n != leave_most && in_batch();
        if (ok) {
            cancels_[n] = &op;
            left_.store(n + 1, std::memory_order_relaxed); // read by poll behind rouse, by start behind the strand's return
        }
        lock_.unlock();
        if (ok && n + 1 == rouse_at) (void)rouse();
        return ok;
    }
    /// Publishes what was left: before any later operation, see the head of this file.
    void take_left() noexcept {
        for (;;) {
            lock_.lock();
            std::uint32_t n = left_.load(std::memory_order_relaxed);
            std::uint32_t i = 0;
            for (; i != n && !ring_.full(); ++i) fill_cancel(ring_.next(), cancels_[i]);
            std::move(cancels_ + i, cancels_ + n, cancels_);
            left_.store(n -= i, std::memory_order_relaxed);
            lock_.unlock();
            if (n == 0) return;
            if (ring_.submit(true) < 0) ::sched_yield(); // out of memory for now
        }
    }
    /// Fills an entry with lock_ held, and publishes it. op may be over.
    void fill_cancel(::io_uring_sqe& e, const operation* op) noexcept {
        e.opcode = IORING_OP_ASYNC_CANCEL;
        e.fd = -1;
        e.addr = reinterpret_cast<__u64>(op);
        e.user_data = ignored;
        e.flags = IOSQE_CQE_SKIP_SUCCESS;
        ring_.publish();
    }

    /// With lock_ held, whether somebody's batch will look at this ring after it has been given up.
    bool in_batch() noexcept {
        if (in_batch_) return true;
        sched::machine* m = sched::this_machine();
        if (!m || !m->cancels || !m->rt) return false;
        // One of another runtime may be gone before the batch ends.
        const auto& ps = m->rt->ps;
        if (std::none_of(ps.begin(), ps.end(), [this](const auto& p) { return p->poll.get() == this; })) return false;
        m->cancels->add(*this);
        return in_batch_ = true;
    }

    /// An entry to fill, with lock_ held.
    ::io_uring_sqe& claim() noexcept {
        for (;;) {
            lock_.lock();
            if (!ring_.full()) [[likely]]
                return ring_.next();
            lock_.unlock();
            if (ring_.submit(true) < 0) ::sched_yield(); // out of memory for now
        }
    }

    static void fill(::io_uring_sqe& e, const operation& op) noexcept {
        e.fd = op.fd;
        e.user_data = reinterpret_cast<__u64>(&op);
        switch (op.code) {
        case op_code::ready:
            e.opcode = IORING_OP_POLL_ADD;
            e.poll32_events = poll_mask(op.way);
            return;
        case op_code::sync:
            e.opcode = IORING_OP_FSYNC;
            return;
        case op_code::recv:
            e.opcode = IORING_OP_RECV;
            break;
        case op_code::send:
            e.opcode = IORING_OP_SEND;
            break;
        case op_code::read:
            e.opcode = IORING_OP_READ;
            break;
        case op_code::write:
            e.opcode = IORING_OP_WRITE;
            break;
        case op_code::readv:
        case op_code::writev: // length: how many pieces
            e.opcode = op.code == op_code::readv ? IORING_OP_READV : IORING_OP_WRITEV;
            e.addr = reinterpret_cast<__u64>(op.address);
            e.len = op.length;
            e.off = op.offset;
            return;
        }
        e.addr = reinterpret_cast<__u64>(op.address);
        e.len = sys::os::ring_length(op.length);
        e.off = op.offset;
        e.msg_flags = op.flags;
    }
    static __u32 poll_mask(direction way) noexcept {
        const __u32 mask = way == direction::read ? POLLIN | POLLRDHUP : POLLOUT;
#if __BYTE_ORDER == __BIG_ENDIAN
        return mask << 16 | mask >> 16;
#else
        return mask;
#endif
    }

    int poll_now() noexcept {
        if (left_.load(std::memory_order_relaxed) != 0) take_left();
        const bool wants = ring_.wants_enter();
        if (wants || ring_.pending() != 0) ring_.submit(wants);
        return reap();
    }

    int reap() noexcept {
        int readied = 0;
        do {
            ring_.reap(reap_most, [&](__u64 data, int res, unsigned flags) noexcept {
                switch (data & tag_mask) {
                case 0: {
                    auto* op = reinterpret_cast<operation*>(data);
                    // acquire: pairs with operation::arm. The way through the kernel orders the two as well,
                    // but the language does not know it.
                    (void)op->state.load(std::memory_order_acquire);
                    op->more = flags;
                    op->finish(res);
                    ++readied;
                    break;
                }
                case event_tag:
                    if (data >> 3 != generation_) break; // one that was replaced
                    watcher_ = nullptr;
                    woken_ = true;
                    drain_event(event_);
                    break;
                default:
                    break;
                }
            });
        } while (ring_.overflowed() && ring_.submit(true) >= 0 && ring_.completions());
        if (readied != 0)
            completed_.store(completed_.load(std::memory_order_relaxed) + static_cast<unsigned>(readied),
                             std::memory_order_release); // pairs with: busy
        return readied;
    }

    /// Sees to it that a write to the eventfd completes a poll that this thread has submitted.
    void watch_event() noexcept {
        const void* me = thread_identity();
        if (watcher_ == me) return;
        if (watcher_) {
            ::io_uring_sqe& e = claim();
            e.opcode = IORING_OP_POLL_REMOVE;
            e.fd = -1;
            e.addr = event_tag | generation_ << 3;
            e.user_data = ignored;
            ring_.publish();
            lock_.unlock();
        }
        ++generation_;
        watcher_ = me;
        ::io_uring_sqe& e = claim();
        e.opcode = IORING_OP_POLL_ADD;
        e.fd = event_;
        e.poll32_events = poll_mask(direction::read);
        e.user_data = event_tag | generation_ << 3;
        ring_.publish();
        lock_.unlock();
    }

    /// A no-op and a wake-up, through all that a poll needs.
    outcome try_out() noexcept {
        ::io_uring_sqe& e = claim();
        e.opcode = IORING_OP_NOP;
        e.fd = -1;
        e.user_data = ignored;
        ring_.publish();
        lock_.unlock();
        watch_event();
        if (const outcome r = ring_.submit(true); r < 0) return r;
        write_event(event_);
        const base::nanos limit = base::now() + 1'000'000'000;
        for (woken_ = false; !woken_;) {
            const outcome r = ring_.submit_and_wait(limit);
            reap();
            if (r < 0 && r != -EINTR) return woken_ ? 0 : r;
        }
        return 0;
    }

    MPG_NOINLINE static const void* thread_identity() noexcept {
        return reinterpret_cast<const void*>(::pthread_self());
    }
    MPG_NOINLINE static int make_event() noexcept {
        const int fd = sys::os::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        return fd >= 0 ? fd : -errno;
    }
    static void write_event(int fd) noexcept {
        const std::uint64_t one = 1;
        (void)!::write(fd, &one, sizeof one);
    }
    static void drain_event(int fd) noexcept {
        std::uint64_t n;
        (void)!::read(fd, &n, sizeof n);
    }

    base::spinlock lock_;                    // guards submitting
    bool in_batch_ = false;                  // a cancel_batch will flush; guarded by lock_
    base::atomic<std::uint32_t> left_{0};    // of cancels_; written under lock_
    base::atomic<std::uint64_t> started_{0}; // operations; written under lock_
    ring ring_;
    alignas(base::cache_line) base::atomic<std::uint32_t> state_{running};
    base::atomic<std::uint64_t> completed_{0}; // operations; written by the one that polls
    // Of the one that polls:
    const void* watcher_ =
        nullptr;           // the thread that has submitted the poll of the eventfd; null: there is none
    __u64 generation_ = 0; // of that poll
    bool woken_ = false;
    int event_ = -1;
    // Of operations, some of which may be over: left to the one that waits; guarded by lock_. No memory can be asked for
    // here: a frozen task may be in malloc.
    const operation* cancels_[leave_most];
};

} // namespace mpg::io
