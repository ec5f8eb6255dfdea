// A lock that costs one P no locked instruction, and what makes the others' part of it: biased locking with revocation (Kawachiya,
// Koseki, Onodera, "Lock reservation", OOPSLA 2002; Russell, Detlefs, "Eliminating synchronization-related atomic operations with
// biased locking and bulk rebiasing", OOPSLA 2006).
//
// A lock has a home, that of the P on which it was made, as long as nobody else has taken it. Who holds that P enters by storing
// `used` and then looking whether it still is at home. Anybody else takes a common lock and then the home away, for good: that
// is stored, a barrier is run on all CPUs (membarrier), and then either `used` is visible here, and one waits until it no longer is,
// or who holds the P will see that it has no home there any more. From then on it is a lock like any other. The barrier takes
// microseconds: after so many of them the home is closed as a whole, and that costs one for all its locks.
//
//   state      bias::home_: a home -> revoking -> nowhere, or nowhere from the start. used_: 0 or 1. home: open -> closing -> closed.
//   invariants A home is one P's at a time. Only who holds that P stores used_. Once home_ is nowhere nobody is inside; it becomes
//              so after used_ was seen to be 0 behind a barrier that came after `revoking`, or after `closing` of its home.
//   the races  a P changes machines. Who is about to store used_ is counted beforehand (as holding a spinlock), and the monitor
//              takes no P from a machine that counts (retake.hpp): it sees the count, or the machine sees that it is asked. From
//              `retaken == no` behind the count on the P is its own until it counts no more. What was stored by the P's last
//              machine is seen by the next one through the hand-over.
//              Who comes too late may still store used_ when the home is gone already: it sees that, and takes it back, and
//              nobody looks at used_ any more.
//
// Templates, so that the model (tests/model) runs the same lines as the runtime.
#pragma once

#include <mpg/sched/retake.hpp>

namespace mpg::sched {

/// Where the locks that were made on a P are taken easily. Never freed: a lock may know it for as long as it lives.
struct home {
    base::atomic<bool> closing{false};    // nobody may take a lock here any more
    base::atomic<bool> closed{false};     // and everybody has seen that
    base::atomic<std::uint32_t> taken{0}; // locks that have lost their home
    base::atomic<std::uint64_t> made{0};  // locks; written by who holds the P
    home* next = nullptr;                 // in home_store
};

/// The words of such a lock, beside the common one.
class bias {
  public:
    /// A home for one that has none. Before anybody else knows it.
    void settle(home* where) noexcept { home_.store(reinterpret_cast<std::uintptr_t>(where), std::memory_order_relaxed); }

    /// Is it for all alike, for ever? Then the common lock alone counts.
    MPG_ALWAYS_INLINE bool is_nobodys() const noexcept {
        return home_.load(std::memory_order_acquire) == nowhere; // pairs with: revoke
    }

    /// By who is counted as holding a spinlock, on machine m. False: it is not at home there, or m is asked for its P.
    template <class Machine> MPG_ALWAYS_INLINE bool enter(const Machine& m) noexcept {
        std::atomic_signal_fence(std::memory_order_seq_cst); // pairs with: the barrier in take_p
        const auto* const p = m.p;
        if (!p || m.retaken.load(std::memory_order_relaxed) != retake::no) [[unlikely]] return false;
        home* const there = p->locks;
        const std::uintptr_t here = reinterpret_cast<std::uintptr_t>(there);
        if (home_.load(std::memory_order_relaxed) != here) return false;
        used_.store(1, std::memory_order_relaxed);
        std::atomic_signal_fence(std::memory_order_seq_cst); // pairs with: the barrier in revoke
        if (home_.load(std::memory_order_relaxed) == here && !there->closing.load(std::memory_order_relaxed)) [[likely]] return true;
        leave();
        return false;
    }
    /// After enter.
    MPG_ALWAYS_INLINE void leave() noexcept { used_.store(0, std::memory_order_release); } // pairs with: revoke

    /// By who holds the common lock: afterwards it is nobody's. barrier(): all that any thread did before is visible afterwards, and
    /// it will see what was stored here before. pause(): for who waits for a moment.
    template <class Barrier, class Pause> void revoke(Barrier barrier, Pause pause) noexcept {
        const std::uintptr_t at = home_.load(std::memory_order_relaxed);
        if (at == revoking || at == nowhere) // the last holder's doing
            return home_.store(nowhere, std::memory_order_release); // pairs with: is_nobodys
        home& from = *reinterpret_cast<home*>(at);
        if (!from.closed.load(std::memory_order_acquire)) { // pairs with: the store below
            const bool last = !may_take_one(from);
            if (last) from.closing.store(true, std::memory_order_relaxed);
            home_.store(revoking, std::memory_order_relaxed);
            barrier(); // pairs with: enter
            if (last) from.closed.store(true, std::memory_order_release); // pairs with: the load above
        }
        while (used_.load(std::memory_order_acquire) != 0) pause(); // pairs with: leave
        home_.store(nowhere, std::memory_order_release); // pairs with: is_nobodys
    }

    /// A moment's truth.
    bool is_used() const noexcept { return used_.load(std::memory_order_relaxed) != 0; }

    // A barrier takes up to 20 us where others run, so for each lock that is made no more than a nanosecond.
    static constexpr std::uint32_t taken_at_first = 64;
    static constexpr std::uint64_t made_for_each = 16'384;

  private:
    static bool may_take_one(home& from) noexcept {
        const std::uint64_t most = taken_at_first + from.made.load(std::memory_order_relaxed) / made_for_each;
        return from.taken.fetch_add(1, std::memory_order_relaxed) < most;
    }
    static constexpr std::uintptr_t revoking = 1, nowhere = 2; // no home has such an address

    base::atomic<std::uintptr_t> home_{nowhere};
    base::atomic<std::uint32_t> used_{0};
};

} // namespace mpg::sched
