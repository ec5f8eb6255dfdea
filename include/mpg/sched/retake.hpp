// The hand-shake by which the monitor takes the P of a machine whose thread does not come back.
//
// machine::in_runtime says that the thread may be using its P. The monitor stores `asking`, and has a barrier run on the
// thread's CPU (monitor.hpp: how); then either in_runtime != 0 is visible to it, and it withdraws, or the thread will see
// `asking` before it uses its P, and waits for the decision at the lock. So coming and going costs the machine two plain
// stores and a load, and no fence.
//
// Templates, so that the model (tests/model) runs the same lines as the runtime.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/config.hpp>

#include <cstdint>

namespace mpg::sched {

/// Whether the monitor has taken a machine's P away while its task was in a system call.
enum class retake : std::uint32_t {
    no,
    asking,  // by the monitor, under retake_lock: a machine that comes into the runtime now waits for that lock
    taken,   // by the monitor: p is another machine's already; this one has not noticed
    surplus, // by the machine: it knows, p is null, and its task goes on without until it can get one or waits
};

/// The machine's thread comes into the runtime: from here on its P, if it has one, is its own until leave_runtime.
template <class Machine> MPG_ALWAYS_INLINE void enter_runtime(Machine& m) noexcept {
    m.in_runtime.store(m.in_runtime.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst); // pairs with: the barrier in take_p
    if (m.retaken.load(std::memory_order_relaxed) != retake::no) [[unlikely]] came_back(m);
}
/// The same for who has another way to go on when the machine is asked for its P, or has lost it: false, and nothing is done.
template <class Machine> MPG_ALWAYS_INLINE bool try_enter_runtime(Machine& m) noexcept {
    const std::uint32_t before = m.in_runtime.load(std::memory_order_relaxed);
    m.in_runtime.store(before + 1, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst); // pairs with: the barrier in take_p
    if (m.retaken.load(std::memory_order_relaxed) == retake::no) [[likely]] return true;
    m.in_runtime.store(before, std::memory_order_release); // as leave_runtime
    return false;
}
template <class Machine> MPG_ALWAYS_INLINE void leave_runtime(Machine& m) noexcept {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    // release: pairs with take_p's look at it, after which another machine writes what this one has written.
    m.in_runtime.store(m.in_runtime.load(std::memory_order_relaxed) - 1, std::memory_order_release);
}

/// The machine's thread has seen that it is asked for its P, or has lost it: waits for the decision. True: the P is gone,
/// and the machine surplus.
template <class Machine, class Lock> bool lost_p(Machine& m, Lock& retake_lock) noexcept {
    retake_lock.lock(); // the monitor decides
    const bool taken = m.retaken.load(std::memory_order_relaxed) == retake::taken;
    m.retaken.store(taken ? retake::surplus : retake::no, std::memory_order_relaxed);
    retake_lock.unlock();
    return taken;
}

/// By the monitor: takes m's P if its thread does not use it, nor holds a spinlock, which may be one at home on the P (bias.hpp). barrier(): all that the thread did before is visible
/// afterwards, and it will see what was stored here before; false: that cannot be said. still(): is it what was seen, the
/// same P with the same task? taken(): runs before the machine can learn of it.
template <class Machine, class Lock, class Barrier, class Still, class Taken>
bool take_p(Machine& m, Lock& retake_lock, Barrier barrier, Still still, Taken taken) noexcept {
    retake_lock.lock();
    m.retaken.store(retake::asking, std::memory_order_relaxed);
    const bool take = barrier() &&                                            // pairs with: enter_runtime, bias::enter
                      m.in_runtime.load(std::memory_order_acquire) == 0 && // pairs with: leave_runtime
                      still() && !holds_spinlocks(m);
    if (take) taken();
    m.retaken.store(take ? retake::taken : retake::no, std::memory_order_relaxed);
    retake_lock.unlock();
    return take;
}

/// A barrier for take_p where the kernel runs none for us: has the thread been off its CPU since this began? clock(): its CPU
/// time, or less than 0; sleeps(): does it not run? Between its CPU and the kernel's record of that lie the kernel's barriers.
template <class Clock, class Sleeps> bool off_its_cpu(Clock clock, Sleeps sleeps) noexcept {
    base::fence(std::memory_order_seq_cst); // pairs with: the kernel's when it takes the thread off its CPU, and puts it there again
    const auto used = clock();
    return used >= 0 && sleeps() && clock() == used;
}

} // namespace mpg::sched
