// Waiting: the one park/ready mechanism under channels, sync types, timers, contexts, joins and I/O.
//
// A *strand* is whoever can wait: a task, or a plain OS thread, for which a stand-in record exists. Both are a
// sched::task*, and the rooms below never ask which.
//
// The protocol of a single wait
//   1. The strand takes the primitive's lock, sees that it has to wait, and links a waiter that lives in its own
//      frame. It calls park(ops, arg) with the lock held.
//   2. park saves the registers, leaves the stack and then runs ops.commit(arg), which releases the lock.
//      From there on the waiter may be found.
//   3. A waker takes the lock, unlinks the waiter, writes its result through it, releases the lock and calls
//      ready(task). Unlinking under the lock is what makes it the only one: *who unlinks a waiter owns the wake-up*.
//   So nobody can ready a strand whose registers are not saved, and no read-modify-write is spent on the handshake.
//
// The protocol of a wait for several things (select, timed and cancellable forms): multi_wait, below.
//
// Stopping. While its runtime stops, a task's suspensions throw mpg::unwound:
//   - call suspension_point() before linking a waiter, in every operation that is about to wait;
//   - park returns false when the stop withdrew the wait (ops.abort returned true): unlink what is left, then call
//     suspension_point(), which throws. Call it too after a park that returned true, once the frame is clean.
//   - in a destructor that runs because of an exception, and under no_unwind, waits work normally:
//     suspension_point() returns and park is not withdrawn.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/errno.hpp>
#include <mpg/base/intrusive_list.hpp>
#include <mpg/sched/wait_reason.hpp>

#include <cstddef>
#include <cstdint>

namespace mpg {

/// Thrown from a task's suspension points while its runtime stops, so that destructors run. Not a std::exception.
/// Let it pass: a handler that swallows it is reported on stderr.
class unwound;

} // namespace mpg

namespace mpg::sched {

struct task;

/// What a parked strand waits for, as told to whoever looks for waits that nothing can end (debug/prove.hpp).
struct wait_view {
    /// Its waiter is linked and nobody has claimed it: no wake-up is under way, and a pointer to the record leads to none.
    bool pending = false;
    /// The argument of park is for commit and abort alone: who finds the waiter does not find it by that address.
    bool private_argument = false;
    /// Nothing was linked anywhere: only a stop ends it.
    bool never = false;
    /// Told of memory apart from the strand's own that belongs to the wait: bytes at `at`, which all who may come to the
    /// waiter through it know by exactly this address; `handles` of them count.
    void (*block)(wait_view&, const void* at, std::size_t bytes, std::uint32_t handles) noexcept = nullptr;
};

/// What park needs to know of a wait; one static constexpr object for each kind.
struct park_ops {
    wait_reason reason;
    /// Runs once, after the strand's registers are saved, mostly on another stack: publish the wait, release the
    /// lock. From its last store on, the strand may already run elsewhere: touch nothing of its frame afterwards.
    void (*commit)(void* arg) noexcept;
    /// Runs on the stopping thread while the strand is parked and none of its runtime's tasks runs (but foreign
    /// threads and other runtimes do): withdraw the wait under the primitive's lock. True: done, nobody else will
    /// ready the strand. False: somebody else has claimed it, or will (an operation whose cancel was requested).
    bool (*abort)(void* arg) noexcept;
    /// Only reads, while every other thread stands still. Null: nothing is known, so it is taken for one that may end.
    void (*look)(void* arg, wait_view& view) noexcept = nullptr;
};

/// The running strand: the current task, or this thread's stand-in. Never null. About 1 ns.
task* current() noexcept;

/// Throws mpg::unwound when the current task's runtime is stopping (not while an exception unwinds, not under
/// no_unwind, never on a plain thread).
void suspension_point();

/// Gives up the CPU until ready(current()) is called. See the protocol above. False: withdrawn by a stop.
bool park(const park_ops& ops, void* arg) noexcept;

/// park, and then suspension_point. Inlined, for the few waits that must be as short as can be: what it is inlined into is
/// not, keeps nothing of its thread, and gives ops as a constant.
bool park_here(const park_ops& ops, void* arg);

/// Makes a parked strand runnable; from any thread. The caller must own the wake-up. On a machine with a processor
/// of the same runtime the task goes into runnext: it runs as soon as the caller parks.
void ready(task* t) noexcept;

/// As ready, but to the back of the queue: for wakers that wake many (close, broadcast, completions).
void ready_later(task* t) noexcept;

/// As ready_later, for who has waited for the clock or for I/O: where tasks compute it goes first (precedence.hpp).
void ready_by_world(task* t) noexcept;

/// Can somebody else run while the caller spins? Not another task where there is one P.
bool others_run() noexcept;

/// For choices: bits of a generator that the caller's thread has for itself. About 2 ns.
std::uint64_t random_bits() noexcept;

/// For what is kept once a P: where the caller is, below 2^32, and how many places there are, 1 to 64. A hint: a task may
/// be elsewhere by the time that it is read. On a plain thread: any.
unsigned place() noexcept;
unsigned places() noexcept;

/// For locks: the caller takes one past a strand that was woken for it, which may stand behind the caller in the queue of
/// the same P. So each 256th time it is let go first: nobody else would do that where there is no preemption.
void passes_by() noexcept;

/// For locks, as the last thing when one is given up for which others have waited: `time` in all. Tells a contention
/// profile, where one is taken; caller: the return address of the function that gave it up. Else two loads and a branch.
void contention_ended(std::int64_t time, const void* caller) noexcept;
/// Is such a profile taken? Who is not asked need not look at the clock.
bool contention_watched() noexcept;

/// In its extent the waits of the current task work normally although the runtime stops: for destructors that must
/// wait. Keep its extent bounded.
class no_unwind {
  public:
    no_unwind() noexcept;
    ~no_unwind();
    no_unwind(const no_unwind&) = delete;
    no_unwind& operator=(const no_unwind&) = delete;

  private:
    task* task_;
};

/// The *fired* word of a strand that waits for several things at once; it lives in the strand's frame.
///
///   preparing: the strand runs and links its waiters. A claim now is early: the strand has not parked.
///   parked:    registers saved; the claimer readies it.
///   claimed:   somebody has won. Everybody else keeps his hands off.
///
/// A claimer holds the lock of its source (channel, timer, context), so that the frame cannot die under it: the
/// strand returns only after all its waiters are unlinked, which takes each of those locks.
class multi_wait {
  public:
    enum class claim_result : std::uint32_t { lost, early, parked };

    multi_wait() noexcept : task_(current()) {}
    explicit multi_wait(task* t) noexcept : task_(t) {}
    multi_wait(const multi_wait&) = delete;
    multi_wait& operator=(const multi_wait&) = delete;

    /// Tries to become the one that wakes the strand, for source `index`. One read-modify-write. Who has not lost
    /// must call wake() with the result, after it has moved its value.
    [[nodiscard]] claim_result claim(std::uint32_t index) noexcept {
        std::uint32_t s = state_.load(std::memory_order_relaxed);
        while (s < claimed) {
            // acquire: pairs with commit (the frame is complete).
            if (state_.compare_exchange_weak(s, claimed | s, std::memory_order_acq_rel, std::memory_order_relaxed)) {
                winner_ = index;
                return s == parked ? claim_result::parked : claim_result::early;
            }
        }
        return claim_result::lost;
    }
    /// Lets the strand go on: the last touch of it, with the source's lock still held or already released.
    void wake(claim_result how, bool later = false) noexcept {
        task* t = task_;
        if (how == claim_result::early) {
            // release: pairs with commit's acquire; winner_ and the moved value are visible to the strand.
            if (!(state_.fetch_or(done, std::memory_order_acq_rel) & waits_for_wake)) return;
        }
        if (later)
            ready_later(t);
        else
            ready(t);
    }
    /// Called by the strand's park_ops.commit, first thing, before it releases any lock. Readies the strand itself
    /// when a claim came early and is complete.
    void commit() noexcept {
        task* t = task_;
        std::uint32_t s = preparing;
        if (state_.compare_exchange_strong(s, parked, std::memory_order_acq_rel)) return; // pairs with: claim
        while (!(s & done)) // claimed early and not complete: ask the claimer to ready us
            if (state_.compare_exchange_weak(s, s | waits_for_wake, std::memory_order_acq_rel)) return;
        ready(t);
    }
    /// After the wake: the index that was given to claim().
    std::uint32_t winner() const noexcept { return winner_; }
    task* owner() const noexcept { return task_; }
    /// Somebody has won, for good: who tries to claim it loses.
    bool is_claimed() const noexcept { return state_.load(std::memory_order_relaxed) >= claimed; }
    /// Parked, and not claimed. A moment's truth.
    bool is_pending() const noexcept { return state_.load(std::memory_order_relaxed) == parked; }

  private:
    static constexpr std::uint32_t preparing = 0, parked = 1, claimed = 2, done = 4, waits_for_wake = 8;

    base::atomic<std::uint32_t> state_{preparing};
    std::uint32_t winner_ = 0; // written by the one claimer, read by the strand after its wake
    task* task_;
};

/// A strand in the queue of a primitive. It lives in the strand's frame; the primitive's lock guards the links.
struct waiter : base::list_hook {
    task* who = nullptr;          // whom to ready, when multi is null
    multi_wait* multi = nullptr;  // set: claim it before anything else
    void* slot = nullptr;         // where the value goes to or comes from; the primitive's business
    std::uint32_t index = 0;      // the index to claim with
    bool ok = false;              // result: false when the wake came from a close, an abort, ...
};

} // namespace mpg::sched
