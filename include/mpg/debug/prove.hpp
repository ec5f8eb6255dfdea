// Tasks that wait for ever: a proof, where there is one.
//
// A parked task goes on when somebody readies it, and only then. Who does that has found its waiter, which lies in the
// task's own frame: through the channel, lock, timer or context in whose list the waiter is linked. So suppose that at one
// moment there is a set of parked tasks such that
//
//   (1) the waiter of each is linked and nobody has claimed it: no wake-up is under way;
//   (2) no address inside their memory (the living part of their stacks, their closures) and none of a channel that they
//       wait for stands anywhere else: in no register of any thread, and in no memory that the process has, but for their
//       own memory, those channels, and memory that is dead (free stacks and records, what lies below a stack pointer).
//
// Then nobody else can come to their waiters: code finds what it uses through an address, and has none; and they
// themselves do not run. So (2) stays true, and they wait until their runtime stops. Nothing about reference counts is
// assumed: a handle in the frame of a task that waits, lent to a thread by reference, is seen because the thread must have
// the address of the handle somewhere, which is one inside the task's memory. A lock that is a global, or part of an object
// on the heap, has the task's waiter in its list, so that its memory, which is anybody's, leads to the task: no proof.
// Timers, subscriptions to contexts and operations in flight are linked into the task's frame in the same way.
//
// How it is found: all candidates (1) are taken for unreachable at first; then everything else is searched for addresses of
// theirs, who was reached is searched, too, and so on (Go's leak profile does the same with the marking of its
// collector; reachable.hpp). That is conservative in the right direction: a number that looks like an address, or an
// address that was left behind in memory that is no longer used, costs a proof and makes none. All threads stand still
// meanwhile, registers at hand (stopped_world.hpp), so there is one moment. Whatever cannot be looked at is a reason to
// say nothing at all.
//
// What it cannot see: an address inside a waiting task's frame that is stored in disguise (split, xored, as a
// difference), or that only the kernel or another process knows: sent through a pipe as bytes, say. A program that does
// so is one that no garbage collector could serve ("strict pointer safety" of C++11 to 20); for channels alone it takes
// more than that, as their address does not leave mpg's handles, and those are no bytes to be sent.
//
// The result of one proof is true for ever, so it is remembered: later dumps and leaks() show it at no cost.
#pragma once

#include <mpg/base/valgrind.hpp>
#include <mpg/debug/dump.hpp>
#include <mpg/debug/forget.hpp>
#include <mpg/debug/prover.hpp>

#include <memory>
#include <pthread.h>

namespace mpg::debug {

struct prove_options {
    /// Memory to look through at most, about a second for each GiB, in which the process stands still. Beyond: no proof.
    std::uint64_t most_bytes = std::uint64_t{1} << 30;
};

/// A task of which it is proved that it cannot go on before its runtime stops.
struct stuck_task {
    std::uint64_t id = 0;
    std::string name;
    sched::wait_reason reason = sched::wait_reason::none;
    std::string why; // "task 17 waits for ever: it holds the last handle of channel 0x..."

    stuck_task() = default;
    stuck_task(const stuck_task&) = default;
    stuck_task(stuck_task&&) = default;
    stuck_task& operator=(const stuck_task&) = default;
    stuck_task& operator=(stuck_task&&) = default;
    ~stuck_task() { detail::forget(name, why); }
};

struct proof {
    /// Empty: the process was looked at, so `stuck` are all for whom there is a proof. Else why it could not be.
    std::string failure;
    std::vector<stuck_task> stuck;
    std::size_t candidates = 0;          // tasks that wait for something that is not the world outside
    std::uint64_t bytes = 0;             // looked through
    std::chrono::nanoseconds stopped{0}; // how long the threads stood still
};

namespace detail {

inline std::string why_for_ever(const prover::found& f) {
    std::string s = "task " + std::to_string(f.t->id) + " waits for ever: ";
    const std::string what(sched::to_string(f.t->wait->reason));
    if (f.never) return s + "nothing ends a wait of this kind (" + what + ")";
    if (!f.channel) return s + "what could end it (" + what + ") is known only to tasks that wait for ever";
    char name[32];
    std::snprintf(name, sizeof name, "%p", f.channel);
    if (f.handles == 1) return s + "it holds the last handle of channel " + name;
    return s + "all " + std::to_string(f.handles) + " handles of channel " + name + " are held by tasks that wait for ever";
}

/// On a thread of its own, which has no frames but these.
inline void prove_here(const std::vector<sched::runtime_state*>& runtimes, const prove_options& o, proof& out) {
    arena memory(std::size_t{1} << 32);
    if (memory.room() == 0) {
        out.failure = "there is no memory to work with";
        return;
    }
    prover p(memory, runtimes, o.most_bytes);
    ::pthread_attr_t attributes;
    void* low = nullptr;
    std::size_t bytes = 0;
    if (::pthread_getattr_np(::pthread_self(), &attributes) != 0) {
        out.failure = "a thread does not know its stack";
        return;
    }
    ::pthread_attr_getstack(&attributes, &low, &bytes);
    ::pthread_attr_destroy(&attributes);
    p.ignore(reinterpret_cast<std::uint64_t>(low), reinterpret_cast<std::uint64_t>(low) + bytes);
    switch (world_stopper::run(memory, p)) {
    case stop_result::done: break;
    case stop_result::no_room: out.failure = "there is no memory to work with"; return;
    case stop_result::no_process: out.failure = "no process could be made, or it was ended"; return;
    case stop_result::refused: out.failure = "the system does not let this process be traced"; return;
    case stop_result::late: out.failure = "a thread did not stop in time"; return;
    }
    if (p.failure()) out.failure = p.failure();
    out.candidates = p.candidates();
    out.bytes = p.bytes();
    out.stopped = std::chrono::nanoseconds(p.took());
    for (const prover::found& f : p.stuck()) {
        stuck_task& t = out.stuck.emplace_back();
        t.id = f.t->id;
        if (f.t->extras) t.name = sched::name_of(*f.t);
        t.reason = f.t->wait->reason;
        t.why = why_for_ever(f);
        proven::instance().add(*f.t, t.why);
    }
}

/// The caller's dead frames may hold anything, and ours would keep some of it.
MPG_NOINLINE inline void clear_below() noexcept {
    volatile std::byte below[4096];
    for (volatile std::byte& b : below) b = std::byte{};
}

} // namespace detail

/// Looks for tasks that can be proved never to go on. The process stands still meanwhile: about 1 ms and a second for each
/// GiB of memory in use. Not under sanitizers and valgrind. A task that is not found may wait for ever all the same: what
/// is proved, and how, stands at the head of this file. From anywhere; suspends.
inline proof prove_stuck(prove_options o = {}) {
    proof out;
    if (base::asan || base::tsan || base::under_valgrind()) {
        out.failure = "not under a sanitizer or valgrind";
        return out;
    }
    detail::clear_below();
    detail::pinned runtimes;
    detail::aside([&] {
        const std::vector<sched::runtime_state*> all(runtimes.begin(), runtimes.end());
        auto look = [&] { detail::prove_here(all, o, out); };
        if (!detail::only_on_a_thread(look)) out.failure = "no thread could be started";
    });
    return out;
}

} // namespace mpg::debug
