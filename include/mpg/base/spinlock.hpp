// A one-word spinlock for sections of a few nanoseconds, and the count of those that a thread holds.
//
// Who holds a spinlock must not be stopped for long: others spin, maybe all of them. So each thread counts the locks
// that it holds or is about to take, and whoever stops threads (sched/preempt.hpp) leaves those alone that hold one.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/clock.hpp>
#include <mpg/base/config.hpp>

#include <cstdint>
#include <sched.h>

// Spinlocks held by this thread. Its own alone, signal handlers included; reached through the functions below only,
// since a compiler may keep the address of a thread-local while a task changes threads.
extern "C" {
[[gnu::used, gnu::tls_model("initial-exec"), gnu::visibility("default")]] inline constinit thread_local
    std::uint32_t mpg_spinlocks_held = 0;
}

namespace mpg::base {

MPG_ALWAYS_INLINE std::uint32_t* spinlocks_held() noexcept {
    std::uint32_t* at;
#if defined(__x86_64__)
    asm volatile("movq mpg_spinlocks_held@gottpoff(%%rip), %0\n\t"
                 "addq %%fs:0, %0"
                 : "=r"(at)
                 :
                 : "cc");
#else
    asm volatile("adrp %0, :gottprel:mpg_spinlocks_held\n\t"
                 "ldr %0, [%0, #:gottprel_lo12:mpg_spinlocks_held]\n\t"
                 "mrs x16, tpidr_el0\n\t"
                 "add %0, %0, x16"
                 : "=&r"(at)
                 :
                 : "x16");
#endif
    return at;
}
// One instruction each on x86-64: a signal sees the count before or after. Others may read it, and see with it what was done
// under the locks; so does ThreadSanitizer, which does not see into assembly.
MPG_ALWAYS_INLINE void holds_one_more() noexcept {
#if defined(__x86_64__) && !defined(MPG_TSAN)
    std::uint64_t offset;
    asm volatile("movq mpg_spinlocks_held@gottpoff(%%rip), %0\n\t"
                 "incl %%fs:(%0)"
                 : "=&r"(offset)
                 :
                 : "memory", "cc");
#else
    std::uint32_t* held = spinlocks_held();
    __atomic_store_n(held, *held + 1, __ATOMIC_RELAXED);
    asm volatile("" ::: "memory");
#endif
}
MPG_ALWAYS_INLINE void holds_one_less() noexcept {
#if defined(__x86_64__) && !defined(MPG_TSAN)
    std::uint64_t offset;
    asm volatile("movq mpg_spinlocks_held@gottpoff(%%rip), %0\n\t"
                 "decl %%fs:(%0)"
                 : "=&r"(offset)
                 :
                 : "memory", "cc");
#else
    std::uint32_t* held = spinlocks_held();
    __atomic_store_n(held, *held - 1, __ATOMIC_RELEASE); // pairs with: sched::holds_spinlocks
#endif
}

#if !defined(MPG_MODEL_ATOMICS) // the model checker has a lock of its own, which does not spin

/// Called by who waits for what others hold for nanoseconds, when that has lasted for a fifth of a second, and he has given his CPU
/// away for more than a thousand times meanwhile: who holds it has had his turn. Set in a child of fork, which has no other thread: the
/// holder may be missing there.
[[gnu::visibility("default")]] inline constinit atomic<void (*)() noexcept> waits_in_vain{nullptr};

/// What such a one does between his looks, once he has been patient: the holder may have lost its CPU, and gets ours.
class holders_turn {
  public:
    void give() noexcept {
        ::sched_yield(); // among others who want this CPU, for a slice of the system
        if (++given_ % 1024 == 0) [[unlikely]] complain();
    }

  private:
    [[gnu::cold]] MPG_NOINLINE void complain() noexcept {
        auto* f = waits_in_vain.load(std::memory_order_relaxed);
        if (!f) return;
        if (since_ == 0) since_ = now();
        if (now() - since_ >= 200'000'000) f();
    }

    unsigned given_ = 0;
    nanos since_ = 0; // of the first thousand
};

/// BasicLockable. Never hold it across a switch (but see sched::park, which releases it after the switch), user
/// code, an allocation that may be slow, or a system call. Uncontended: one exchange to lock (4.5 ns), one
/// plain store to unlock, and the thread's count.
class spinlock {
  public:
    spinlock() = default;
    spinlock(const spinlock&) = delete;
    spinlock& operator=(const spinlock&) = delete;

    MPG_ALWAYS_INLINE void lock() noexcept {
        holds_one_more();
        if (word_.exchange(1, std::memory_order_acquire) != 0) [[unlikely]] // pairs with: unlock
            lock_slow();
    }
    bool try_lock() noexcept {
        holds_one_more();
        if (word_.load(std::memory_order_relaxed) == 0 &&
            word_.exchange(1, std::memory_order_acquire) == 0) // pairs with: unlock
            return true;
        holds_one_less();
        return false;
    }
    /// On the thread that has locked it.
    MPG_ALWAYS_INLINE void unlock() noexcept {
        word_.store(0, std::memory_order_release); // pairs with: lock, try_lock
        holds_one_less();
    }

    /// A moment's truth.
    bool is_locked() const noexcept { return word_.load(std::memory_order_relaxed) != 0; }

  private:
    // Who comes too late stays away for a while, longer each time: meanwhile the owner, whose cache has what the lock
    // guards, locks again and again, each time for a few nanoseconds; a lock that changes hands costs many times that.
    // The owner may also have lost its CPU: after a few rounds give ours away, so that it can run.
    MPG_NOINLINE void lock_slow() noexcept {
        constexpr unsigned most_pauses = 32, patient_rounds = 4;
        unsigned pauses = 8;
        holders_turn turn;
        for (unsigned round = 0;; ++round) {
            for (unsigned i = 0; i < pauses; ++i) cpu_relax();
            if (pauses < most_pauses) pauses *= 2;
            if (round >= patient_rounds) turn.give();
            if (word_.load(std::memory_order_relaxed) == 0 &&
                word_.exchange(1, std::memory_order_acquire) == 0) // pairs with: unlock
                return;
        }
    }

    atomic<std::uint32_t> word_{0};
};

#endif

} // namespace mpg::base
