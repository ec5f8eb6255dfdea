// What the machines of one runtime share.
#pragma once

#include <mpg/base/spinlock.hpp>
#include <mpg/fiber/stack_pool.hpp>
#include <mpg/sched/biased_lock.hpp>
#include <mpg/sched/events.hpp>
#include <mpg/sched/global_queue.hpp>
#include <mpg/sched/machine.hpp>
#include <mpg/sched/monitor_sleep.hpp>
#include <mpg/sched/options.hpp>
#include <mpg/sched/processor.hpp>

#include <csignal>
#include <memory>
#include <mutex>
#include <vector>

namespace mpg::sched {

/// 256 task records that stand together as long as the runtime, or as a handle of one of them.
struct record_slab {
    static constexpr std::size_t count = 256;
    record_slab* next = nullptr;
    std::size_t held = 0; // records that handles hold after the runtime's end; guarded by records_at_large
    task records[count];
};

/// Is told of contention, by the task that has waited (waited) or that let one go on who had (released): why, for how
/// long, and the return address of the innermost frame that counts.
using contention_fn = void (*)(wait_reason why, base::nanos time, const void* caller) noexcept;

/// Where observers are attached; the debug room's. Read at every switch, written at most a few times. Null: nobody.
struct alignas(base::cache_line) trace_hook {
    base::atomic<bool> recording{false}; // then every P has a ring
    base::atomic<contention_fn> waited{nullptr}, released{nullptr}; // written under the registry's lock
    base::spinlock others_lock;         // guards writing others
    std::unique_ptr<event_ring> others; // what happens on threads without a P; constant once it is there
    std::uint64_t first_ticks = 0;      // when recording began, by both clocks; constant likewise
    base::nanos first_time = 0;
};

/// Held while a record is given back from a thread that need not be one of its runtime, and while a runtime goes away.
[[gnu::visibility("default")]] inline base::spinlock& records_at_large() noexcept {
    static base::spinlock lock;
    return lock;
}

struct runtime_state {
    explicit runtime_state(const options& o) : opts(o), stacks(o.stack_size, std::max<std::size_t>(o.guard_size, fiber::stack_pool::page)) {
        ::pthread_sigmask(SIG_BLOCK, nullptr, &signal_mask);
    }
    runtime_state(const runtime_state&) = delete;
    runtime_state& operator=(const runtime_state&) = delete;
    void release_records() noexcept;
    ~runtime_state() {
        ps.clear(); // first: their wheels may run owners' callbacks
        release_records();
        while (machine* m = machines) {
            machines = m->next_all;
            m->g0.ctx.sp = m->ended.ctx.sp = m->finish_arg = nullptr; // addresses of tasks' stacks, for the reason of base::wipe
            asm volatile("" : : "r"(m) : "memory");
            delete m;
        }
    }

    options opts;
    ::sigset_t signal_mask; // of every machine: that of the thread that has made the runtime, not of who needs a machine
    fiber::stack_pool stacks;
    global_queue global;
    std::vector<std::unique_ptr<processor>> ps; // constant after the start
    netpoll poller_kind = netpoll::none;
    std::string poller_reason;
    bool may_spin = false; // more than one CPU

    trace_hook trace;

    // The sleep protocol; see idle_list.hpp.
    alignas(base::cache_line) base::atomic<std::uint32_t> idle_count{0}; // Ps on the idle list; written under idle_lock
    base::atomic<std::uint32_t> searching{0};
    base::atomic<processor*> dozer{nullptr}; // whose machine searches with its eyes shut for a while; look_around.hpp
    base::spinlock idle_lock;
    processor* idle_list = nullptr; // idle_lock

    // Machines.
    alignas(base::cache_line) base::spinlock machines_lock; // guards all below
    machine* machines = nullptr;
    machine* spare = nullptr; // parked, without a P
    std::size_t thread_count = 0, spare_count = 0;
    std::size_t spares_to_be = 0; // threads that start, and will be spare
    base::spinlock births_lock;   // held, before machines_lock, while a thread is made, which may last
    base::atomic<std::uint32_t> blocking_count{0}; // tasks in blocking(), or on the way

    // Records.
    base::spinlock records_lock; // guards all below
    record_slab* slabs = nullptr;
    task* free_tasks = nullptr;   // by next
    task* free_batches = nullptr; // records.hpp
    base::atomic<std::uint64_t> next_id{1}; // ids are dealt out in blocks
    base::atomic<std::uint64_t> foreign_created{0}, foreign_ended{0};

    base::spinlock names_lock; // guards the names of all tasks

    base::spinlock attached_lock; // guards what follows; see attached.hpp
    std::vector<std::pair<const void*, std::shared_ptr<void>>> attached;

    // Frozen machines, oldest first, and the monitor; see frozen.hpp and monitor.hpp.
    alignas(base::cache_line) base::atomic<std::uint32_t> frozen_count{0}; // written under frozen_lock
    base::atomic<std::uint32_t> freezing{0}; // handlers that may be about to freeze their threads; see relief.hpp
    std::uint32_t frozen_most = 0;      // beyond: no fresh tasks are started; constant after the start
    base::spinlock frozen_lock;         // guards the list
    machine* frozen_first = nullptr;
    machine* frozen_last = nullptr;
    base::spinlock retake_lock;         // held by the monitor while it asks for a P
    base::nanos slice = 0;              // options::preempt_after where preemption works, else 0
    std::string preemption_reason;      // why it does not
    bool retaking = false;              // the monitor can take Ps from tasks that block unannounced
    std::string retake_reason;          // why it cannot
    bool membarrier = false;            // the kernel lets us use it
    base::atomic<std::uint64_t> preemptions{0}, retakes{0}, stalls{0};
    base::atomic<std::uint32_t> monitor_word{monitor_awake}; // the monitor sleeps here; see monitor_sleep.hpp
    base::atomic<bool> monitor_ends{false};
    base::atomic<bool> deadlock_reported{false};
    ::pthread_t monitor_thread{};
    bool has_monitor = false;
    class stall_reporter* reporter = nullptr; // made and ended with the monitor

    // While stopping; P 0's machine only.
    std::uint64_t stop_live = 0;
    base::nanos stop_since = 0;

    // Stopping; see stop.hpp.
    alignas(base::cache_line) base::atomic<bool> stopping{false};
    base::atomic<bool> forked{false}; // this process is a child: no thread of the runtime is in it; see registry
    base::atomic<std::uint32_t> stopped_ps{0};
    base::atomic<bool> abandoned{false}; // something did not end in time: nothing may be freed
    event stopped;

    base::atomic<std::uint64_t> handoffs{0}, dropped_exceptions{0};
    base::atomic<std::uint32_t> waiting_callers{0}; // threads in run(): they wake nobody
    base::atomic<std::uint32_t> pins{0};            // who looks at it from outside: it is not freed meanwhile
    void* owner = nullptr;                          // the public runtime
    runtime_state* next_alive = nullptr;            // the registry's list

    std::uint64_t live() const noexcept {
        std::uint64_t ended = foreign_ended.load(std::memory_order_acquire), created;
        for (auto& p : ps) ended += p->ended.load(std::memory_order_acquire);
        created = foreign_created.load(std::memory_order_acquire);
        for (auto& p : ps) created += p->created.load(std::memory_order_acquire);
        return created - ended;
    }
};

/// The last touch of a pinned runtime.
inline void unpin(runtime_state& rt) noexcept { rt.pins.fetch_sub(1, std::memory_order_release); } // pairs with: await_unpinned

[[noreturn]] void used_after_fork() noexcept; // fatal.hpp

/// The runtimes that are alive, oldest first; the first is the default one for plain threads.
///
/// A child of fork() has none of their threads, and shares their rings with its parent. There they are marked as forked
/// and stopping: who starts a task or waits is told (sched::used_after_fork), and what does neither, as exec and _exit,
/// works. Who waits for a spinlock that a missing thread holds is told, too, after a while. The child may start a runtime of its
/// own, whose threads may hold spinlocks.
class [[gnu::visibility("default")]] registry {
  public:
    static registry& instance() noexcept {
        static registry& r = *new registry;
        return r;
    }
    void add(runtime_state& rt) noexcept {
        std::lock_guard hold(lock_);
        attach(rt);
        runtime_state** at = &first_;
        while (*at) at = &(*at)->next_alive;
        *at = &rt;
        watch_waits();
    }
    void remove(runtime_state& rt) noexcept {
        std::lock_guard hold(lock_);
        for (runtime_state** at = &first_; *at; at = &(*at)->next_alive)
            if (*at == &rt) {
                *at = rt.next_alive;
                return watch_waits();
            }
    }
    /// Calls f(runtime_state&) of the default runtime, which cannot go away meanwhile. False: none is alive.
    template <class F> bool with_default(F f) {
        std::lock_guard hold(lock_);
        if (!first_) return false;
        f(*first_);
        return true;
    }

    /// Who is told of contention from now on, in all runtimes and in those to come. Null: nobody.
    void watch_contention(contention_fn waited, contention_fn released) noexcept {
        std::lock_guard hold(lock_);
        waited_ = waited;
        released_ = released;
        for (runtime_state* rt = first_; rt; rt = rt->next_alive) attach(*rt);
    }

    /// Pins all that are alive and calls f(runtime_state&) for each, under a lock. Each needs its unpin.
    template <class F> void pin_all(F f) {
        std::lock_guard hold(lock_);
        for (runtime_state* rt = first_; rt; rt = rt->next_alive) {
            rt->pins.fetch_add(1, std::memory_order_relaxed);
            f(*rt);
        }
    }

  private:
    registry() {
        ::pthread_atfork([] { instance().lock_.lock(); }, [] { instance().lock_.unlock(); },
                         [] {
                             registry& r = instance();
                             for (runtime_state* rt = r.first_; rt; rt = rt->next_alive) {
                                 rt->forked.store(true, std::memory_order_relaxed);
                                 rt->stopping.store(true, std::memory_order_relaxed);
                                 for (auto& p : rt->ps) p->attention.fetch_or(attention::stop, std::memory_order_relaxed);
                             }
                             r.orphaned_ = r.orphaned_ || r.first_;
                             r.first_ = nullptr;
                             r.watch_waits();
                             r.lock_.unlock();
                         });
    }
    void watch_waits() noexcept {
        base::waits_in_vain.store(orphaned_ && !first_ ? &used_after_fork : nullptr, std::memory_order_relaxed);
    }
    void attach(runtime_state& rt) noexcept {
        rt.trace.waited.store(waited_, std::memory_order_release); // pairs with: park_watched
        rt.trace.released.store(released_, std::memory_order_release); // pairs with: contention_ended
        for (auto& p : rt.ps) p->set_attention(attention::profiled, waited_ != nullptr);
    }

    base::spinlock lock_; // guards all below
    runtime_state* first_ = nullptr;
    bool orphaned_ = false; // a child of fork, without the threads of its parent's runtimes
    contention_fn waited_ = nullptr, released_ = nullptr;
};

inline home* home_here() noexcept {
    runtime_section inside;
    machine* m = inside.m;
    processor* p = m ? m->p : nullptr;
    if (!p || !p->locks) return nullptr;
    if (p->locks->closing.load(std::memory_order_relaxed)) [[unlikely]] {
        // Most of what is made here is shared with other Ps, it seems. Some day it may no longer be so.
        if (++p->homeless % (bias::taken_at_first * bias::made_for_each) != 0) return nullptr;
        home_store::give(std::exchange(p->locks, home_store::take()));
    }
    bump(p->locks->made);
    return p->locks;
}

} // namespace mpg::sched
