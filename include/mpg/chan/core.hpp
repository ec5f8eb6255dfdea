// The untyped half of a channel: its lock, its counters, its two queues of waiters. After Go's
// runtime/chan.go.
//
// A channel is a spinlock, a ring of `capacity` slots of which `count` are filled, a FIFO of receivers and a
// FIFO of senders. Every operation is one critical section in which it either goes on at once or links a
// waiter that lives in its own frame. Holds whenever the lock is free, for waiters that can still be claimed
// (a select that was served elsewhere may leave a stale one behind until it comes to unlink it):
//
//   I1  somebody waits to receive  =>  count == 0 and nobody waits to send, but for a select that does both
//   I2  somebody waits to send     =>  count + reserved == capacity, and not closed
//   I3  closed                     =>  nobody waits, unless reserved > 0: then receivers may
//   I4  closed never becomes false; closed, count == 0 and reserved == 0 ("drained") is for ever
//
// `reserved` counts ring slots that belong to a transfer of an element whose move may throw, between its two
// critical sections (boxed.hpp). For all other elements it is 0.
//
// Who owns what
//   - A linked waiter is guarded by the lock. To serve one: pop it, and if it belongs to a multi_wait, claim
//   that; a
//     lost claim means that it was served elsewhere: drop it and pop the next. Popped and claimed it is
//     *ours*: its strand stays parked (or on its way there) until we wake it, so the value may be moved from
//     or into its frame, and its wake-up comes after the unlock, because that may be the last time its frame,
//     and the channel, exist.
//   - So a direct hand-off needs no slot of the ring, keeps the order, and the woken strand touches the
//   channel no more.
//   - A waiter is in at most one list: its channel's queue (`queued`), or, ours, a local list of close().
//   - close() takes all waiters into a local list under the lock and wakes them without it, reading each link
//   before
//     the wake, after which the waiter is gone.
//
// A select links one waiter for each case and releases all locks before it parks: a claim in between is an
// early one (sched::multi_wait). Since it claims nothing itself once linked, two selects cannot wait for each
// other.
//
// Memory order. All happens-before edges that the API promises come from the lock, except one: the values
// that a parked strand receives or gives are moved under the lock, and reach it with ready(). The counters
// are atomics only because others peek at them without the lock; under it plain loads and stores of them
// suffice.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/clock.hpp>
#include <mpg/base/config.hpp>
#include <mpg/base/intrusive_list.hpp>
#include <mpg/chan/status.hpp>
#include <mpg/sched/biased_lock.hpp>
#include <mpg/sched/wait.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace mpg::channels {

/// What an attempt found, under the lock. done: it went on. closed: it ends because of a close.
enum class outcome : std::uint8_t { blocked, done, closed };

/// Builds the element from a sender's source: into a std::optional<T>, or else into raw storage.
using emit_fn = void (*)(void* from, void* where, bool optional) noexcept;

/// A strand in a channel's queue. ok (of the base) tells a transfer from a close.
struct chan_waiter : sched::waiter {
    emit_fn emit = nullptr; // a sender's: moves the element out of slot
    base::atomic<bool> queued{false}; // in its channel's queue; written under the channel's lock
    sched::multi_wait::claim_result how = sched::multi_wait::claim_result::lost; // whoever has claimed multi
};

/// Wakes a waiter that is ours. Its frame may be gone when this returns.
inline void wake(chan_waiter& w) noexcept {
    if (w.multi) [[unlikely]]
        w.multi->wake(w.how);
    else
        sched::ready(w.who);
}
inline void wake_later(chan_waiter& w) noexcept {
    if (w.multi)
        w.multi->wake(w.how, true);
    else
        sched::ready_later(w.who);
}

using waiter_list = base::intrusive_list<chan_waiter>;

/// A FIFO of waiters that can be asked without the lock whether it looks empty.
class wait_queue {
  public:
    /// With the lock: exact. Without: a moment's truth; a stale waiter counts.
    bool empty() const noexcept { return size_.load(std::memory_order_acquire) == 0; } // pairs with: set_size

    void push_back(chan_waiter& w) noexcept {
        list_.push_back(w);
        w.queued.store(true, std::memory_order_relaxed);
        set_size(+1);
    }
    void push_front(chan_waiter& w) noexcept {
        list_.push_front(w);
        w.queued.store(true, std::memory_order_relaxed);
        set_size(+1);
    }
    /// Precondition: w is queued here. The last touch of w: a strand that was served elsewhere may leave when it
    /// sees that it is not queued, without the lock.
    void erase(chan_waiter& w) noexcept {
        waiter_list::erase(w);
        w.queued.store(false, std::memory_order_release); // pairs with: many_wait::unlink
        set_size(-1);
    }
    /// The first waiter that can be had, now ours; null when there is none.
    MPG_ALWAYS_INLINE chan_waiter* take() noexcept {
        chan_waiter* w = list_.front();
        if (!w || w->multi) [[unlikely]] return w ? take_claimed() : nullptr;
        erase(*w);
        return w;
    }
    MPG_NOINLINE chan_waiter* take_claimed() noexcept {
        while (chan_waiter* w = list_.front()) {
            if (w->multi) {
                auto how = w->multi->claim(w->index);
                if (how == sched::multi_wait::claim_result::lost) {
                    erase(*w);
                    continue;
                }
                w->how = how;
            }
            erase(*w);
            return w;
        }
        return nullptr;
    }
    /// Is there a waiter that could be had at this moment? Those before it that were served elsewhere are dropped.
    MPG_ALWAYS_INLINE bool has_live() noexcept {
        if (empty()) return false;
        while (chan_waiter* w = list_.front()) {
            if (!w->multi || !w->multi->is_claimed()) return true;
            erase(*w); // as take does that loses the claim
        }
        return false;
    }
    void take_all(waiter_list& into) noexcept {
        while (chan_waiter* w = take()) into.push_back(*w);
    }

  private:
    void set_size(std::int32_t change) noexcept {
        auto size = size_.load(std::memory_order_relaxed) + static_cast<std::uint32_t>(change);
        size_.store(size, std::memory_order_release); // pairs with: empty, of a peek
    }

    waiter_list list_;
    base::atomic<std::uint32_t> size_{0};
};

/// See the head of this file. Guarded by lock unless a member says otherwise.
struct channel_core {
    sched::biased_lock lock;
    base::atomic<std::uint32_t> refs{1}; // handles; the last one destroys
    base::atomic<bool> closed{false};    // peeked at
    bool others_know = false;            // constant; not by handles alone: a timer or a context's hook leads into it
    bool looks_unbuffered = false;       // constant; a timer's: nobody is told of its buffer
    base::atomic<std::size_t> count{0};  // filled slots; peeked at
    std::size_t head = 0;                // the slot that is received next
    void* slots = nullptr;               // constant
    std::size_t capacity;                // constant, but for elastic channels
    std::atomic<std::uint64_t> accepted{0}; // values that went in so far; for metrics: nothing is ordered or decided by it,
                                            // so it is no business of the model checker's
    wait_queue receivers;
    wait_queue senders;
    std::size_t reserved = 0;
    void (*destroy)(channel_core&) noexcept = nullptr; // constant; run by the last handle

    explicit channel_core(std::size_t cap) noexcept
        : capacity(cap) {}
    channel_core(const channel_core&) = delete;
    channel_core& operator=(const channel_core&) = delete;

    std::size_t filled() const noexcept { return count.load(std::memory_order_relaxed); }
    void set_filled(std::size_t n) noexcept {
        count.store(n, std::memory_order_release);
    } // pairs with: peeks
    /// A value goes in, to the ring or to a receiver. (Of those that may throw: boxed.hpp, without the lock.)
    void count_one() noexcept {
        accepted.store(accepted.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    bool is_closed() const noexcept { return closed.load(std::memory_order_relaxed); }

    /// For park_ops::look. Who knows a channel, and does not hold its lock, knows it by its address, which is that of the
    /// lock, too. Without its elements: those may know others, but nobody the channel by them.
    void show(sched::wait_view& v) const noexcept {
        if (lock.is_locked())
            v.pending = false; // somebody is at work in it
        else if (!others_know)
            v.block(v, this, sizeof *this, refs.load(std::memory_order_relaxed));
    }

    // The peeks: false is an answer that a non-blocking operation may give without the lock.
    //
    // recv: emptiness is read first. If the channel is not closed after that, it was not closed at that
    // moment either (I4): then it was open and empty, and "empty" is the truth of that moment. The converse
    // order would take "open" from before and "empty" from after a close, and miss that it was drained. send:
    // closed is read first. A channel that was open then and full later was at some moment both: before the
    // close, if there was one in between, since a closed channel does not fill up.
    // Both loads acquire, so that they are not swapped; the second needs no order.
    bool looks_receivable() const noexcept {
        return count.load(std::memory_order_acquire) != 0 || !senders.empty() ||
               closed.load(std::memory_order_acquire);
    }
    bool looks_sendable() const noexcept {
        return closed.load(std::memory_order_acquire) || count.load(std::memory_order_acquire) < capacity ||
               !receivers.empty();
    }

    // The same with the lock: waiters that were served elsewhere do not count.
    bool is_receivable() noexcept { return filled() != 0 || senders.has_live() || is_closed(); }
    bool is_sendable() noexcept { return is_closed() || filled() < capacity || receivers.has_live(); }
};

/// Throws channel_closed when it is closed already. Does not suspend; wakes all who wait, costs a lock and a
/// ready for each of them.
inline void close(channel_core& c) {
    waiter_list woken;
    c.lock.lock();
    if (c.is_closed()) {
        c.lock.unlock();
        throw channel_closed("mpg: close of closed channel");
    }
    c.closed.store(true, std::memory_order_release);  // pairs with: peeks
    if (c.reserved == 0) c.receivers.take_all(woken); // else the last reservation wakes them
    c.senders.take_all(woken);
    c.lock.unlock();
    while (chan_waiter* w = woken.pop_front()) wake_later(*w);
}

/// A wait in one queue of one channel.
struct single_wait {
    channel_core* core;
    wait_queue* queue;
    chan_waiter* node;

    static void commit(void* arg) noexcept { static_cast<single_wait*>(arg)->core->lock.unlock(); }
    static bool abort(void* arg) noexcept {
        auto& w = *static_cast<single_wait*>(arg);
        w.core->lock.lock();
        bool ours = w.node->queued.load(std::memory_order_relaxed);
        if (ours) w.queue->erase(*w.node);
        w.core->lock.unlock();
        return ours;
    }
    static void look(void* arg, sched::wait_view& v) noexcept {
        auto& w = *static_cast<single_wait*>(arg);
        v.private_argument = true;
        v.pending = w.node->queued.load(std::memory_order_relaxed);
        w.core->show(v);
    }
};

template <sched::wait_reason Reason>
inline constexpr sched::park_ops single_ops{Reason, &single_wait::commit, &single_wait::abort,
                                            &single_wait::look};

/// Waits in q, of c, with a node whose slot and emit are given. The lock is held, and nothing can be done at once. blocked:
/// a stop has withdrawn the wait and lets the strand go on, so it must start over. Afterwards the channel may be gone.
/// What this is inlined into is not.
MPG_ALWAYS_INLINE outcome wait_here(channel_core& c, wait_queue& q, void* slot, emit_fn emit, const sched::park_ops& ops) {
    chan_waiter node;
    node.who = sched::current();
    node.slot = slot;
    node.emit = emit;
    q.push_back(node);
    single_wait w{&c, &q, &node};
    if (!sched::park_here(ops, &w)) [[unlikely]] return outcome::blocked;
    return node.ok ? outcome::done : outcome::closed;
}
/// The same, out of line.
MPG_NOINLINE inline outcome wait_in(channel_core& c, wait_queue& q, void* slot, emit_fn emit,
                                    const sched::park_ops& ops) {
    return wait_here(c, q, slot, emit, ops);
}

/// Waits until this task's runtime stops.
[[noreturn]] MPG_NOINLINE inline void wait_forever(const sched::park_ops& ops) {
    for (;;) {
        sched::suspension_point();
        sched::park(ops, nullptr);
    }
}
template <sched::wait_reason Reason>
inline constexpr sched::park_ops forever_ops{Reason, [](void*) noexcept {},
                                             [](void*) noexcept { return true; },
                                             [](void*, sched::wait_view& v) noexcept { v.never = true; }};

} // namespace mpg::channels
