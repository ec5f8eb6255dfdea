// The hierarchical timer wheel of a P.
//
// Seven levels of 64 slots; a level-0 slot is a tick of 65.5 us, each further level is 64 times coarser (Varghese and
// Lauck, "Hashed and hierarchical timing wheels", 1987). A node stands in the level of the highest digit in which its
// tick differs from elapsed_; when elapsed_ reaches its slot it is fired (level 0) or moved down. A deadline is
// rounded up to a tick, so nothing fires early.
//
// Who may do what: anybody may arm and disarm under lock_; the machine that holds the P advances, and any searching
// machine may in its place. Callbacks run without lock_; firing_ names the node whose callback runs, and disarm waits
// while it is that node: so a node's owner may free it as soon as disarm has returned. The wheel does not touch a node
// after its callback has started, but for a callback that arms its own node again.
//
// Wheels outlive their runtimes (they go back to a free list and are never freed), since the owner of a fired node may
// look at its wheel at any later time.
#pragma once

#include <mpg/sched/biased_lock.hpp>
#include <mpg/sched/task.hpp>
#include <mpg/sched/timer.hpp>
#include <mpg/sched/wait.hpp>

#include <algorithm>
#include <bit>
#include <utility>

namespace mpg::sched {

class timer_wheel {
  public:
    /// Before the wheel is used, and again when it is used anew.
    void open(base::nanos now) noexcept { elapsed_ = tick_of(now); }

    /// For who holds the P with that home it costs less from now on. Before anybody else knows the wheel.
    void settle(home* where) noexcept {
        if (!was_others) lock_.settle(where);
    }

    /// True: it became the soonest. False too when the deadline is never.
    bool arm(timer_node& node, base::nanos deadline) noexcept {
        node.deadline = deadline;
        lock_.lock();
        node.wheel.store(this, std::memory_order_release); // pairs with: disarm
        insert(node, false);
        node.before = std::exchange(recent_[armings_++ % recent], &node);
        ++armed_;
        bool soonest = deadline < next_.load(std::memory_order_relaxed);
        if (soonest) next_.store(deadline, std::memory_order_release);
        lock_.unlock();
        return soonest;
    }

    bool disarm(timer_node& node) noexcept {
        bool pending = false;
        for (;;) {
            disarmed d = try_disarm(node, pending);
            if (d != disarmed::running) return pending;
            ::sched_yield();
        }
    }
    /// unlinked: set, when it was linked, also if its callback runs and has armed it again.
    disarmed try_disarm(timer_node& node, bool& unlinked) noexcept {
        lock_.lock();
        const bool linked = node.linked();
        if (linked) {
            unlink(node);
            unlinked = true;
        }
        const bool running = firing_ == &node && firing_thread_ != this_thread();
        lock_.unlock();
        return running ? disarmed::running : linked ? disarmed::pending : disarmed::idle;
    }

    /// Fires all that is due. One machine at a time does it; a second one returns at once.
    int advance(base::nanos now) noexcept {
        if (!lock_.try_lock()) return 0;
        if (firing_) {
            lock_.unlock();
            return 0;
        }
        int fired = 0;
        std::uint64_t target = now < 0 ? 0 : static_cast<std::uint64_t>(now) >> shift; // rounded down: never early
        base::intrusive_list<timer_node> due;
        while (expire_next(target, due)) {
            while (timer_node* node = due.front()) {
                if (node->sleeper) {
                    fired += wake_sleepers(due);
                    continue;
                }
                due.erase(*node);
                --armed_;
                firing_ = node;
                firing_thread_ = this_thread();
                auto fire = node->fire;
                lock_.unlock();
                fire(*node);
                ++fired;
                lock_.lock();
                firing_ = nullptr;
            }
        }
        if (target > elapsed_) elapsed_ = target;
        next_.store(next_deadline(), std::memory_order_release);
        lock_.unlock();
        return fired;
    }

    /// A lower bound of the next deadline; never when nothing is armed.
    base::nanos next() const noexcept { return next_.load(std::memory_order_acquire); }
    std::size_t armed() const noexcept {
        lock_.lock();
        std::size_t n = armed_;
        lock_.unlock();
        return n;
    }
    /// The node whose callback the calling thread runs arms itself again in the wheel that fires it.
    bool is_firing(const timer_node& node) const noexcept {
        lock_.lock();
        bool is = firing_ == &node && firing_thread_ == this_thread();
        lock_.unlock();
        return is;
    }

    /// Detaches every armed node, when the runtime goes away.
    void drop_all() noexcept {
        for (;;) {
            lock_.lock();
            timer_node* node = nullptr;
            for (auto& level : slots_) {
                for (auto& slot : level)
                    if ((node = slot.front())) break;
                if (node) break;
            }
            if (!node) {
                next_.store(base::never, std::memory_order_relaxed);
                lock_.unlock();
                return;
            }
            unlink(*node);
            auto dropped = node->dropped;
            if (!dropped) node->wheel.store(nullptr, std::memory_order_release);
            lock_.unlock();
            if (dropped) {
                node->wheel.store(nullptr, std::memory_order_release);
                dropped(*node);
            }
        }
    }

    timer_wheel* next_free = nullptr; // in the free list
    bool was_others = false;          // it had an owner who is gone: there may be threads that lock it at any time

  private:
    static constexpr unsigned shift = 16, levels = 7, bits = 6, slots = 1u << bits;
    static constexpr unsigned recent = 8;

    static const void* this_thread() noexcept {
        asm volatile("");
        return __builtin_thread_pointer();
    }
    static std::uint64_t tick_of(base::nanos t) noexcept { // rounded up
        constexpr base::nanos limit = base::never - (base::nanos{1} << shift);
        return t <= 0 ? 0 : (static_cast<std::uint64_t>(std::min(t, limit)) + (1u << shift) - 1) >> shift;
    }

    // All below under lock_.
    void insert(timer_node& node, bool in_front) noexcept {
        std::uint64_t tick = std::max(tick_of(node.deadline), elapsed_ + 1);
        std::uint64_t differ = tick ^ elapsed_;
        unsigned level = static_cast<unsigned>(63 - std::countl_zero(differ | 1)) / bits;
        level = std::min(level, levels - 1);
        auto slot = static_cast<unsigned>((tick >> (level * bits)) % slots);
        node.slot = static_cast<std::uint16_t>(level * slots + slot);
        if (in_front)
            slots_[level][slot].push_front(node);
        else
            slots_[level][slot].push_back(node);
        occupied_[level] |= std::uint64_t{1} << slot;
    }
    void unlink(timer_node& node) noexcept {
        --armed_;
        base::intrusive_list<timer_node>::erase(node);
        unsigned level = node.slot / slots, slot = node.slot % slots;
        if (node.slot != in_flight && slots_[level][slot].empty())
            occupied_[level] &= ~(std::uint64_t{1} << slot);
    }
    // The start tick of the soonest occupied slot; ~0: none.
    std::uint64_t soonest(unsigned& level, unsigned& slot) const noexcept {
        for (level = 0; level < levels; ++level) {
            if (!occupied_[level]) continue;
            auto now = static_cast<unsigned>((elapsed_ >> (level * bits)) % slots);
            slot = (static_cast<unsigned>(std::countr_zero(std::rotr(occupied_[level], static_cast<int>(now)))) + now) %
                   slots;
            std::uint64_t range = std::uint64_t{1} << ((level + 1) * bits);
            std::uint64_t start = (elapsed_ & ~(range - 1)) + (std::uint64_t{slot} << (level * bits));
            if (start < elapsed_) start += range; // only the topmost level wraps
            return start;
        }
        return ~std::uint64_t{0};
    }
    base::nanos next_deadline() const noexcept {
        unsigned level, slot;
        std::uint64_t tick = soonest(level, slot);
        return tick >= (~std::uint64_t{0} >> (shift + 1)) ? base::never : static_cast<base::nanos>(tick << shift);
    }
    // Moves on to the next occupied slot up to target; what expires there goes to due. False: nothing more.
    bool expire_next(std::uint64_t target, base::intrusive_list<timer_node>& due) noexcept {
        unsigned level, slot;
        std::uint64_t tick = soonest(level, slot);
        if (tick > target || tick == ~std::uint64_t{0}) return false;
        elapsed_ = tick;
        occupied_[level] &= ~(std::uint64_t{1} << slot);
        base::intrusive_list<timer_node> batch;
        batch.splice_back(slots_[level][slot]);
        // Each node is the first touch of somebody's stack, and a list is no faster than one after the other. So it is
        // gone through from its end, where those that come next have been named by `before`, and keeps its order: the
        // slots that a batch moves down to were empty, since elapsed_ has come to their range only now.
        while (timer_node* node = batch.pop_back()) {
            __builtin_prefetch(node->before, 1);
            if (tick_of(node->deadline) <= tick) {
                node->slot = in_flight;
                due.push_front(*node);
            } else {
                insert(*node, true);
            }
        }
        return true;
    }

    // Those at the front of due, some at a time: the lock is taken once for all of them, and their records come into the
    // cache side by side. Who disarms one of them meanwhile is told that it has fired.
    int wake_sleepers(base::intrusive_list<timer_node>& due) noexcept {
        constexpr int most = 16;
        task* woken[most];
        int n = 0;
        for (timer_node* node = due.front(); node && node->sleeper && n < most; node = due.front()) {
            woken[n++] = node->sleeper;
            __builtin_prefetch(node->sleeper, 1);
            firing_ = node; // never looked into: it says that somebody is at it
            due.erase(*node);
        }
        armed_ -= static_cast<std::size_t>(n);
        firing_thread_ = this_thread();
        lock_.unlock();
        for (int i = 0; i != n; ++i) {
            __builtin_prefetch(woken[i]->ex.ctx.sp, 1); // where it goes on; it is soon run
            ready_by_world(woken[i]);
        }
        lock_.lock();
        firing_ = nullptr;
        return n;
    }

    static constexpr std::uint16_t in_flight = 0xffff; // on the list of due nodes

    mutable biased_lock lock_{nullptr}; // guards all below, but for next_, which is written under it
    std::uint64_t elapsed_ = 0;   // the tick up to which all has fired
    std::size_t armed_ = 0;
    timer_node* firing_ = nullptr;
    const void* firing_thread_ = nullptr;
    unsigned armings_ = 0;
    const void* recent_[recent] = {}; // the nodes armed last; some may be gone
    std::uint64_t occupied_[levels] = {};
    base::atomic<base::nanos> next_{base::never};
    base::intrusive_list<timer_node> slots_[levels][slots];
};

/// Wheels that no runtime uses. They are reachable from here for ever.
class [[gnu::visibility("default")]] wheel_store {
  public:
    static timer_wheel* take() {
        wheel_store& s = instance();
        s.lock_.lock();
        timer_wheel* w = s.free_;
        if (w) s.free_ = w->next_free;
        s.lock_.unlock();
        if (!w) w = new timer_wheel;
        w->open(base::now());
        return w;
    }
    static void give(timer_wheel* w) noexcept {
        w->drop_all();
        wheel_store& s = instance();
        s.lock_.lock();
        w->was_others = true;
        w->next_free = s.free_;
        s.free_ = w;
        s.lock_.unlock();
    }

  private:
    static wheel_store& instance() noexcept {
        static wheel_store& s = *new wheel_store;
        return s;
    }
    base::spinlock lock_;
    timer_wheel* free_ = nullptr;
};

inline timer_wheel* take_wheel() { return wheel_store::take(); }
inline void give_wheel(timer_wheel* w) noexcept { wheel_store::give(w); }

} // namespace mpg::sched
