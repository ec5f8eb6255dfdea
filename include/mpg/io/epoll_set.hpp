// Edge-triggered readiness: an epoll instance, and a slot for each descriptor that is registered with it.
//
// A slot remembers what the kernel has reported and nobody has used up, so that no edge is lost between a
// failed try and the wait. It outlives its registration: an event that was fetched before the descriptor was
// closed finds a slot of another generation, and is dropped. A set outlives its poller as long as descriptors
// are registered with it; these then move to the poller of whoever uses them next.
//
// Who does not read is told of each packet all the same, and a thread that sleeps is woken for it: a proxy that waits for room
// on one side, while the other sends. So a slot of which the kernel says several times what it has said, and nobody waits for
// it, is made deaf to it; the next wait makes it hear again, and is told then what there is.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/config.hpp>
#include <mpg/base/spinlock.hpp>
#include <mpg/io/driver.hpp>
#include <mpg/io/syscall.hpp>

#include <algorithm>
#include <memory>
#include <new>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <utility>
#include <vector>

namespace mpg::io {

class epoll_set;

/// What is known of one descriptor. 64 bytes, aligned so: an event carries the address and the generation in
/// one word.
struct alignas(64) epoll_slot final : canceller {
    static constexpr std::uint32_t readable = 1, writable = 2, read_closed = 4,
                                   failed = 8;    // failed: error, hang-up
    static constexpr std::uint32_t urgent = 16;   // there has been some: a read stops short in front of it
    static constexpr std::uint32_t one_tick = 32; // the rest counts events

    /// After a try that began when the word was `seen`: what was known is used up, unless an event came
    /// since. After a short transfer (not empty) the end of the stream and errors are still to be had: their
    /// one edge may have come together with the data. Urgent data of TCP, which we pass over as Go does, cuts a
    /// read short though more is there: behind it only an empty try counts. (Whoever has sent it before the last
    /// event is in that event.)
    void use_up(std::uint32_t seen, direction way, bool empty) noexcept {
        if (way == direction::read && !empty && (seen & urgent)) return;
        std::uint32_t bits = way == direction::read ? readable : writable;
        if (empty) bits |= way == direction::read ? read_closed | failed : failed;
        word.compare_exchange_strong(seen, seen & ~bits, std::memory_order_acq_rel,
                                     std::memory_order_relaxed);
    }
    static bool says_go(std::uint32_t w, direction way) noexcept {
        return w & (way == direction::read ? readable | read_closed | failed : writable | failed);
    }

    void start(operation& op) noexcept;
    inline void cancel(operation& op) noexcept override;
    /// From the poller: returns how many strands it has readied.
    int report(std::uint32_t events, std::uint32_t generation) noexcept;
    /// Ends what waits here.
    int flush() noexcept;

    base::spinlock lock;
    base::atomic<std::uint32_t> word{0}; // bits and tick; events are added under lock, use_up is not
    operation* reader = nullptr;         // guarded by lock
    operation* writer = nullptr;         // guarded by lock
    epoll_set* set = nullptr;            // constant
    // In use: the one of the same descriptor in a set that is closed; guarded by the descriptor. Free: the next one; guarded
    // by the set's lock.
    epoll_slot* next = nullptr;
    std::uint32_t generation = 0; // guarded by lock
    int fd = -1;                  // guarded by lock: of the registration
    std::uint8_t in_vain = 0;     // guarded by lock: events since a strand was readied that told nobody anything
    bool deaf = false;            // guarded by lock: the kernel was told not to tell of input
    static constexpr std::uint8_t patience = 4; // of in_vain: two system calls, to be deaf and to hear, must pay
};
static_assert(sizeof(epoll_slot) == 64);

class epoll_set {
  public:
    epoll_set() = default;
    epoll_set(const epoll_set&) = delete;
    epoll_set& operator=(const epoll_set&) = delete;

    MPG_NOINLINE outcome open() noexcept {
        epoll_ = sys::os::epoll_create1(EPOLL_CLOEXEC);
        if (epoll_ < 0) return -errno;
        event_ = sys::os::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (event_ < 0) return -errno;
        ::epoll_event e{};
        e.events = EPOLLIN | EPOLLET; // an edge for each write: never needs a read
        return sys::os::epoll_ctl(epoll_, EPOLL_CTL_ADD, event_, &e) == 0 ? 0 : -errno;
    }

    /// A slot with an event for whatever is ready already. errno in e: EPERM for what cannot be waited for
    /// (files).
    epoll_slot* add(int fd, outcome& e) noexcept {
        epoll_slot* s = take();
        if (!s) return e = -ENOMEM, nullptr;
        s->lock.lock(); // the one that an event takes
        s->fd = fd;
        s->lock.unlock();
        e = control(EPOLL_CTL_ADD, fd, s, everything);
        if (e < 0) return give_back(s), nullptr;
        refs_.fetch_add(1, std::memory_order_relaxed);
        return s;
    }
    /// Precondition: nobody waits in s. The descriptor is still open (in a child that fork has made it may
    /// stay so). May destroy the set.
    void remove(epoll_slot* s, int fd) noexcept {
        control(EPOLL_CTL_DEL, fd, s, everything);
        s->lock.lock();
        ++s->generation;
        s->word.store(0, std::memory_order_relaxed);
        s->in_vain = 0;
        s->deaf = false;
        s->lock.unlock();
        give_back(s);
        release();
    }

    /// From the poller.
    template <class F> int wait(base::nanos until, F on_wake) noexcept {
        // Half as many as tasks run until the next poll, so that the processor's run queue does not fill up.
        // The others wait in the kernel, in order; tasks that find no room there are overtaken.
        ::epoll_event events[32];
        const outcome n = wait_leaf(events, 32, until);
        int readied = 0;
        for (outcome i = 0; i < n; ++i) {
            const std::uint64_t data = events[i].data.u64;
            if (data == 0)
                on_wake();
            else
                readied += slot_of(data)->report(events[i].events, generation_of(data));
        }
        return readied;
    }
    void wake() noexcept {
        const std::uint64_t one = 1;
        (void)!::write(event_, &one, sizeof one);
    }
    bool ready() const noexcept {
        ::pollfd p{epoll_, POLLIN, 0};
        ::timespec zero{};
        return sys::poll(&p, 1, &zero) == 1;
    }
    bool busy() const noexcept { return waiting_.load(std::memory_order_acquire) != 0; }
    /// Descriptors are registered here: who uses one waits here, wherever it runs.
    bool watched() const noexcept { return refs_.load(std::memory_order_acquire) > 1; }
    bool closed() const noexcept { return closed_.load(std::memory_order_acquire); } // pairs with: close

    /// The poller goes; strands of other runtimes that wait here look for another. Precondition: nobody calls
    /// add.
    void close() noexcept {
        closed_.store(true,
                      std::memory_order_release); // before the locks below; pairs with: closed, in start
        for (auto& block : blocks_)
            for (std::size_t i = 0; i != block_size; ++i) block[i].flush();
        release();
    }

  private:
    friend struct epoll_slot;
    static constexpr std::size_t block_size = 64;

    // The descriptors are kept until here, since the last remove() needs them.
    ~epoll_set() {
        if (epoll_ >= 0) sys::close(epoll_);
        if (event_ >= 0) sys::close(event_);
    }
    void release() noexcept {
        if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this; // acq_rel: pairs with itself
    }

    // 48 bits of address, the lowest 6 of them zero: 22 bits are left for the generation.
    static std::uint64_t pack(const epoll_slot* s) noexcept {
        const std::uint64_t g = s->generation;
        return reinterpret_cast<std::uint64_t>(s) | (g & 63) | (g >> 6) << 48;
    }
    static epoll_slot* slot_of(std::uint64_t data) noexcept {
        return reinterpret_cast<epoll_slot*>(data & 0xffff'ffff'ffc0u);
    }
    static std::uint32_t generation_of(std::uint64_t data) noexcept {
        return static_cast<std::uint32_t>((data & 63) | (data >> 48) << 6);
    }

    static constexpr std::uint32_t everything = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    static constexpr std::uint32_t but_input = everything & ~(EPOLLIN | EPOLLPRI); // data wakes who wants either

    MPG_NOINLINE outcome control(int what, int fd, const epoll_slot* s, std::uint32_t events) noexcept {
        ::epoll_event e{};
        e.events = events;
        e.data.u64 = pack(s);
        return sys::os::epoll_ctl(epoll_, what, fd, &e) == 0 ? 0 : -errno;
    }
    MPG_NOINLINE outcome wait_leaf(::epoll_event* events, int n, base::nanos until) noexcept {
        base::nanos left = 0;
        if (until != 0 && until != base::never) left = std::max<base::nanos>(until - base::now(), 0);
        if (!coarse_.load(std::memory_order_relaxed)) {
            ::timespec ts{left / 1'000'000'000, left % 1'000'000'000};
            const int r = sys::os::epoll_pwait2(epoll_, events, n, until == base::never ? nullptr : &ts, nullptr);
            if (r >= 0 || (errno != ENOSYS && errno != EPERM)) return r >= 0 ? r : -errno;
            coarse_.store(
                true, std::memory_order_relaxed); // before Linux 5.11, and where a filter does not know it
        }
        const base::nanos ms = std::min<base::nanos>((left + 999'999) / 1'000'000, 3'600'000); // rounded up
        const int r = sys::os::epoll_wait(epoll_, events, n, until == base::never ? -1 : static_cast<int>(ms));
        return r >= 0 ? r : -errno;
    }

    /// After the strands were readied: else, for a moment, nobody would wait and nobody be ready, which is a
    /// deadlock to whoever looks.
    void stop_waiting(int n) noexcept {
        waiting_.fetch_sub(static_cast<std::uint32_t>(n), std::memory_order_release); // pairs with: busy
    }

    epoll_slot* take() noexcept {
        lock_.lock();
        epoll_slot* s = free_;
        if (s) free_ = s->next;
        lock_.unlock();
        return s ? s : grow();
    }
    void give_back(epoll_slot* s) noexcept {
        lock_.lock();
        s->next = free_;
        free_ = s;
        lock_.unlock();
    }
    epoll_slot* grow() noexcept {
        try {
            std::unique_ptr<epoll_slot[]> block(new epoll_slot[block_size]);
            epoll_slot* first = block.get();
            for (std::size_t i = 0; i != block_size; ++i) {
                first[i].set = this;
                first[i].next = i + 1 != block_size ? &first[i + 1] : nullptr;
            }
            lock_.lock();
            try {
                blocks_.push_back(std::move(block));
            } catch (...) {
                lock_.unlock();
                throw;
            }
            first[block_size - 1].next = free_;
            free_ = first[0].next;
            lock_.unlock();
            return first;
        } catch (const std::bad_alloc&) {
            return nullptr;
        }
    }

    int epoll_ = -1, event_ = -1; // constant
    base::atomic<bool> closed_{false};
    base::atomic<bool> coarse_{false};       // no epoll_pwait2 here
    base::atomic<std::uint32_t> refs_{1};    // the poller, and the registrations
    base::atomic<std::uint32_t> waiting_{0}; // operations linked in the slots
    base::spinlock lock_;                    // guards what follows
    epoll_slot* free_ = nullptr;
    std::vector<std::unique_ptr<epoll_slot[]>> blocks_;
};

inline void epoll_slot::start(operation& op) noexcept {
    lock.lock();
    outcome how = try_again;
    bool go = !op.arm(*this) || set->closed() || says_go(word.load(std::memory_order_acquire), op.way);
    if (!go && op.way == direction::read && deaf) {
        // A system call under the lock, as in report: so no event comes between the two words for it. It reports what is there.
        const outcome e = set->control(EPOLL_CTL_MOD, fd, this, epoll_set::everything);
        deaf = e < 0;
        if (deaf) go = true, how = e;
    }
    if (!go) {
        (op.way == direction::read ? reader : writer) = &op;
        set->waiting_.fetch_add(1, std::memory_order_relaxed);
    }
    lock.unlock();
    if (go) op.finish(how);
}

inline void epoll_slot::cancel(operation& op) noexcept {
    lock.lock();
    operation*& place = op.way == direction::read ? reader : writer;
    const bool mine = place == &op;
    if (mine) place = nullptr;
    lock.unlock();
    if (!mine) return;
    op.finish(-ECANCELED);
    set->stop_waiting(1); // the kicker's lock keeps the strand in its turn, and so the set
}

inline int epoll_slot::report(std::uint32_t events, std::uint32_t of_generation) noexcept {
    std::uint32_t bits = 0;
    if (events & EPOLLIN) bits |= readable;
    if (events & EPOLLPRI) bits |= urgent;
    if (events & EPOLLOUT) bits |= writable;
    if (events & EPOLLRDHUP) bits |= read_closed;
    if (events & (EPOLLERR | EPOLLHUP)) bits |= failed;
    operation *r = nullptr, *w = nullptr;
    lock.lock();
    if ((generation & 0x3f'ffff) == of_generation) {
        std::uint32_t old = word.load(std::memory_order_relaxed);
        // release: what the kernel has reported happens before a try that the bit allows; pairs with: start
        while (!word.compare_exchange_weak(old, (old | bits) + one_tick, std::memory_order_acq_rel)) {
        }
        if (says_go(bits, direction::read)) r = std::exchange(reader, nullptr);
        if (says_go(bits, direction::write)) w = std::exchange(writer, nullptr);
        if (r || w || !(old & bits & readable))
            in_vain = 0;
        else if (!deaf && ++in_vain == patience) {
            // The number is still that of the registration: it is closed after remove, which changes the generation.
            deaf = set->control(EPOLL_CTL_MOD, fd, this, epoll_set::but_input) == 0;
            in_vain = 0;
        }
    }
    const int n = (r != nullptr) + (w != nullptr);
    lock.unlock();
    if (r) r->finish(try_again);
    if (w) w->finish(try_again);
    if (n) set->stop_waiting(n);
    return n;
}

inline int epoll_slot::flush() noexcept {
    lock.lock();
    operation* r = std::exchange(reader, nullptr);
    operation* w = std::exchange(writer, nullptr);
    const int n = (r != nullptr) + (w != nullptr);
    lock.unlock();
    if (r) r->finish(try_again);
    if (w) w->finish(try_again);
    if (n) set->stop_waiting(n);
    return n;
}

} // namespace mpg::io
