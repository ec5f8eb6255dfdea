// G: the record of a task.
//
// A task is a record first and a stack later: go() stores the closure here and queues the record; a stack is bound when
// the task first runs and given back when it ends. Records are 256 bytes, pooled per P, and stand in slabs that live
// as long as the runtime, so that all tasks can be enumerated without a list that every go() would have to lock.
//
// A plain OS thread that waits has a record too (rt == nullptr), so that no primitive needs to tell them apart.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/clock.hpp>
#include <mpg/base/config.hpp>
#include <mpg/fiber/execution.hpp>
#include <mpg/sched/wait.hpp>

#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <type_traits>
#include <utility>

namespace mpg::sched {

struct machine;
struct runtime_state;
struct task;

/// Written by whoever owns the task at that time (the queue it is on, the machine that runs it, the waker that has
/// claimed it); read by dumps and statistics, which only want a recent value.
enum class task_state : std::uint8_t {
    free,     // in a pool of records; no stack
    fresh,    // on a run queue, not started: no stack; the machine that takes it moves it on
    runnable, // on a run queue (runnext, a ring, the global queue); its stack is at rest
    running,  // on a machine with a P; the machine owns the stack
    waiting,  // parked: its waiter is linked somewhere; who unlinks it moves it on
    blocking, // on a machine without a P, or on the way to one, in blocking()
    frozen,   // its thread waits for a P, in a signal handler; who unlinks the machine from the frozen queue moves it on
    ended,    // its record is kept for a handle only
};

constexpr const char* to_string(task_state s) noexcept {
    constexpr const char* names[] = {"free", "runnable", "runnable", "running", "waiting", "blocking", "frozen", "ended"};
    return names[static_cast<unsigned>(s)];
}

/// Type-erased closure: run does what the task is for and destroys the closure, destroy only destroys it.
enum class closure_op : std::uint8_t { run, destroy };
using closure_fn = void (*)(task& self, void* closure, closure_op);

/// What few tasks have; made on first use by the task itself.
struct task_extras {
    std::string name;                             // written by the task under names_lock of its runtime
    void* locals = nullptr;                       // task_local values; the task's own
    void (*destroy_locals)(void*) noexcept = nullptr;
};

/// Of a task, where others compute: may it go first? Raised when the world wakes it, none when it was frozen (precedence.hpp).
namespace standing {
inline constexpr std::uint8_t computes = 0, neutral = 1, first = 2, proven = 3;
} // namespace standing

/// What stands in the word of a plain thread's stand-in. Who readies it makes a system call only for one that sleeps.
inline constexpr std::uint32_t strand_waits = 0, strand_readied = 1, strand_sleeps = 2;

/// In the order of who needs it: a task that only runs and ends touches the first two lines, one that waits the first two
/// and the last.
struct alignas(base::cache_line) task {
    task* next = nullptr;        // link of the queue or pool it is on
    runtime_state* rt = nullptr; // constant from creation to end; null for a thread's stand-in
    std::uint64_t id = 0;
    char* stack = nullptr; // low end; the machine that runs it
    closure_fn body = nullptr;
    const void* created_at = nullptr; // an address in the code that started it
    std::uint64_t parent = 0;         // id of the task that started it

    base::atomic<task_state> state{task_state::free};
    base::atomic<bool> withdrawn{false}; // by a stop; read after the park
    std::uint8_t no_unwind = 0;          // depth; the task's own
    std::uint8_t blocking = 0;           // depth of blocking(); the task's own
    std::uint8_t no_suspend = 0;         // depth of no_suspend; the task's own
    bool on_heap = false;                // the closure; its address then stands in storage
    // Never written at once: the one by the task itself, the other while it is at rest.
    bool unwound_done : 1 = false;       // it ends because of unwound, which is no swallowing
    std::uint8_t standing : 2 = standing::neutral; // who has it on the way to its P, or freezes it
    std::uint8_t swallowed = 0;          // how often it has swallowed unwound

    base::atomic<std::uint32_t> refs{1}; // the run itself, and a handle
    // A stand-in waits here. Of a task: when it became runnable, if it is one of the sample (latency.hpp), else 0.
    base::atomic<std::uint32_t> futex{0};
    machine* bound = nullptr; // thread_lock: the only machine that may run it
    task_extras* extras = nullptr;
    base::nanos since = 0; // when it last left its stack, by its P's clock; never twice the same (dumps rely on it)

    static constexpr std::size_t storage_bytes = 96;
    alignas(16) std::byte storage[storage_bytes];

    fiber::execution ex; // while suspended; else, its exceptions, errno and FP words are of no meaning

    const park_ops* wait = nullptr; // while waiting; else of no meaning. Written before the park, read with the world stopped
    void* wait_arg = nullptr;       // the same; of the first of a batch of free records: the next batch

    /// Where a closure on the heap is, stands in storage; what it takes beside it, for debug/prove.hpp.
    struct elsewhere {
        void* at;
        std::size_t bytes;
    };
    /// Does a closure of type C stand in storage?
    template <class C> static constexpr bool fits = sizeof(C) <= storage_bytes && alignof(C) <= 16;
    void* closure() noexcept { return on_heap ? std::launder(reinterpret_cast<elsewhere*>(storage))->at : storage; }
    bool is_thread() const noexcept { return rt == nullptr; }
    void set_state(task_state s) noexcept { state.store(s, std::memory_order_relaxed); }
    task_state get_state() const noexcept { return state.load(std::memory_order_relaxed); }
};
static_assert(sizeof(task) <= 256);
static_assert(offsetof(task, storage) + 32 <= 2 * base::cache_line && offsetof(task, ex) % base::cache_line == 0);

/// Places a closure of type C into the record, inline when it fits.
template <class C, class... A> C& emplace_closure(task& t, closure_fn body, A&&... args) {
    C* made;
    if constexpr (task::fits<C>) {
        made = ::new (static_cast<void*>(t.storage)) C(std::forward<A>(args)...);
        t.on_heap = false;
    } else {
        made = new C(std::forward<A>(args)...);
        ::new (static_cast<void*>(t.storage)) task::elsewhere{made, sizeof(C)};
        t.on_heap = true;
    }
    t.body = body;
    return *made;
}
template <class C> void destroy_closure(task& t) noexcept {
    C* c = static_cast<C*>(t.closure());
    if constexpr (task::fits<C>)
        c->~C();
    else
        delete c;
}

} // namespace mpg::sched
