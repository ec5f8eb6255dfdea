// The spinlock of what mostly stays with one P: channels, contexts, the only P's timers. The hand-shake stands in bias.hpp.
#pragma once

#include <mpg/base/spinlock.hpp>

#if !defined(MPG_MODEL_ATOMICS)
#include <mpg/sched/bias.hpp>
#include <mpg/sched/machine.hpp>

#include <cerrno>
#include <ctime>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <type_traits>
#include <unistd.h>
#endif

namespace mpg::sched {

#if defined(MPG_MODEL_ATOMICS)
using biased_lock = base::spinlock; // model_bias_test has this one
#else

/// Homes that no P has, of those that are open; the closed ones are lost but for the locks that know them.
class [[gnu::visibility("default")]] home_store {
  public:
    static home* take() {
        home_store& s = instance();
        s.lock_.lock();
        home* h = s.free_;
        if (h) s.free_ = h->next;
        s.lock_.unlock();
        return h ? h : new home;
    }
    static void give(home* h) noexcept {
        home_store& s = instance();
        s.lock_.lock();
        home*& list = h->closing.load(std::memory_order_relaxed) ? s.closed_ : s.free_;
        h->next = list;
        list = h;
        s.lock_.unlock();
    }

  private:
    static home_store& instance() noexcept {
        static home_store& s = *new home_store;
        return s;
    }
    base::spinlock lock_;
    home* free_ = nullptr;
    home* closed_ = nullptr; // so that they are reachable
};

/// The home of a lock that the caller makes; null: none.
home* home_here() noexcept;

/// With a spinlock that is held for it. Microseconds.
MPG_NOINLINE inline void revoke(bias& b) noexcept {
    base::holders_turn turn;
    b.revoke(
        [] {
            const int before = errno;
            // A filter that came later may refuse it. No CPU keeps what it has stored to itself for so long.
            if (::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0) {
                const ::timespec moment{0, 1'000'000};
                ::nanosleep(&moment, nullptr);
            }
            errno = before;
        },
        [&] { turn.give(); });
}

/// A bias, as the calling thread has it.
class local_bias {
  public:
    /// Its home is the P of the task that makes it; of what is static, none.
    constexpr local_bias() noexcept {
        if (!std::is_constant_evaluated()) settle(home_here());
    }
    explicit local_bias(home* where) noexcept { settle(where); }
    local_bias(const local_bias&) = delete;
    local_bias& operator=(const local_bias&) = delete;
    /// Before anybody else knows it. null: as it is.
    void settle(home* where) noexcept {
        if (where) bias_.settle(where);
    }

    MPG_ALWAYS_INLINE bool is_nobodys() const noexcept { return bias_.is_nobodys(); }

    /// True: nobody else is, or will be, inside until leave(). Meanwhile a spinlock's rules hold.
    MPG_ALWAYS_INLINE bool enter() noexcept {
        base::holds_one_more();
        if (enter_counted()) [[likely]] return true;
        base::holds_one_less();
        return false;
    }
    MPG_ALWAYS_INLINE void leave() noexcept {
        leave_counted();
        base::holds_one_less();
    }
    /// The same for who is counted as holding a spinlock from before until after.
    MPG_ALWAYS_INLINE bool enter_counted() noexcept {
        const machine* m = this_machine();
        return m && bias_.enter(*m);
    }
    MPG_ALWAYS_INLINE void leave_counted() noexcept { bias_.leave(); }
    /// enter, for who is at home, but is just asked for his P: waits for the decision.
    bool enter_later() noexcept {
        machine* m = this_machine();
        if (!m || !m->rt || m->retaken.load(std::memory_order_relaxed) == retake::no) return false;
        enter_runtime(*m);
        leave_runtime(*m);
        return enter();
    }

    /// Under a spinlock that all hold who call this.
    void make_common() noexcept {
        if (!is_nobodys()) revoke(bias_);
    }

    /// A moment's truth.
    bool is_used() const noexcept { return bias_.is_used(); }

  private:
    [[no_unique_address]] bias bias_;
};

/// BasicLockable, with base::spinlock's rules. At home: some ten instructions, none of them locked. Elsewhere what a spinlock takes;
/// the first time microseconds more.
class biased_lock {
  public:
    /// As local_bias.
    biased_lock() = default;
    explicit biased_lock(home* where) noexcept : bias_(where) {}
    void settle(home* where) noexcept { bias_.settle(where); }

    MPG_ALWAYS_INLINE void lock() noexcept {
        if (bias_.is_nobodys()) return common_.lock();
        if (!bias_.enter()) [[unlikely]] lock_slow();
    }
    bool try_lock() noexcept {
        if (!bias_.is_nobodys() && bias_.enter()) return true;
        if (!common_.try_lock()) return false;
        bias_.make_common();
        return true;
    }
    /// On the thread that has locked it.
    MPG_ALWAYS_INLINE void unlock() noexcept {
        if (bias_.is_nobodys()) return common_.unlock(); // else it is used at home: who holds the common lock has ended that
        bias_.leave();
    }
    /// For who locks several: he counts himself as holding one (base::holds_one_more) from before until after.
    MPG_ALWAYS_INLINE void lock_counted() noexcept {
        if (bias_.is_nobodys()) return common_.lock();
        if (!bias_.enter_counted()) [[unlikely]] lock_common();
    }
    MPG_ALWAYS_INLINE void unlock_counted() noexcept {
        if (bias_.is_nobodys()) return common_.unlock();
        bias_.leave_counted();
    }

    /// A moment's truth.
    bool is_locked() const noexcept { return common_.is_locked() || bias_.is_used(); }

  private:
    MPG_NOINLINE void lock_slow() noexcept {
        if (!bias_.enter_later()) lock_common();
    }
    MPG_NOINLINE void lock_common() noexcept {
        common_.lock();
        bias_.make_common();
    }

    [[no_unique_address]] local_bias bias_; // whose padding is the place of the other one
    base::spinlock common_;
};
static_assert(sizeof(biased_lock) == 16);

#endif

} // namespace mpg::sched

#if !defined(MPG_MODEL_ATOMICS)
#include <mpg/sched/processor.hpp> // which knows what is at home there; behind the locks, since it has some
#endif
