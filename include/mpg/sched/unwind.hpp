// Unwinding the tasks of a runtime that stops: where unwound is thrown, and what happens to it.
#pragma once

#include <mpg/sched/park.hpp>
#include <mpg/sched/scheduler.hpp>
#include <mpg/sched/unwound.hpp>

#include <exception>

namespace mpg::sched {

inline constexpr std::uint8_t most_swallowed = 100;

/// A task that swallows unwound again and again is given up: its stack stays as it is, and nothing runs on it.
[[noreturn]] MPG_NOINLINE inline void give_up_task(task* t) noexcept {
    static constexpr park_ops never{wait_reason::stopped,
                                    [](void* arg) noexcept {
                                        auto* rt = static_cast<runtime_state*>(arg);
                                        rt->foreign_ended.fetch_add(1, std::memory_order_release);
                                    },
                                    [](void*) noexcept { return false; }};
    ++t->no_unwind;
    for (;;) park(never, t->rt);
}

MPG_NOINLINE inline void suspension_point_slow(task* t) {
    if (t->rt && t->rt->forked.load(std::memory_order_relaxed)) used_after_fork();
    if (t->is_thread() || t->no_unwind != 0 || std::uncaught_exceptions() != 0) return;
    if (t->swallowed >= most_swallowed) give_up_task(t);
    throw unwound();
}

MPG_ALWAYS_INLINE void suspension_point(machine* m) {
    if (m && m->rt && m->rt->stopping.load(std::memory_order_relaxed)) [[unlikely]]
        if (m->cur) suspension_point_slow(m->cur);
}
MPG_ALWAYS_INLINE void suspension_point() { suspension_point(this_machine()); }

/// After a park_for_woken that a stop has ended, or that has seen one.
MPG_NOINLINE inline bool parked_at_stop(task* t) {
    const bool woken = !t->withdrawn.load(std::memory_order_relaxed);
    t->withdrawn.store(false, std::memory_order_relaxed);
    suspension_point_slow(t);
    return woken;
}
MPG_NOINLINE inline bool park_anyhow(const park_ops& ops, void* arg) {
    const bool woken = park(ops, arg);
    suspension_point();
    return woken;
}
MPG_ALWAYS_INLINE bool park_here(const park_ops& ops, void* arg) {
    machine* m = this_machine();
    if (!park_for_woken(m, ops, arg)) [[unlikely]] return park_anyhow(ops, arg);
    if (m->rt->stopping.load(std::memory_order_relaxed)) [[unlikely]] return parked_at_stop(m->cur); // else it is not withdrawn
    return true;
}

inline no_unwind::no_unwind() noexcept : task_(current()) { ++task_->no_unwind; }
inline no_unwind::~no_unwind() { --task_->no_unwind; }

/// In a handler of an exception that has left the body of self.
[[noreturn, gnu::cold]] MPG_NOINLINE inline void escaped(task& self) {
    std::string text = "mpg: an exception left task " + std::to_string(self.id);
    if (std::string name = name_of(self); !name.empty()) text += " \"" + name + "\"";
    text += ", created at " + describe_site(self.created_at);
    try {
        throw;
    } catch (const std::exception& e) {
        text += std::string(": ") + e.what();
    } catch (...) {
        text += ": not a std::exception";
    }
    write_all(2, text + "\n");
    say_last();
    std::terminate();
}

/// The body of every task: runs f, and deals with what leaves it.
template <class F> MPG_ALWAYS_INLINE void run_guarded(task& self, F&& f) noexcept {
    try {
        std::forward<F>(f)();
    } catch (const unwound&) {
        self.unwound_done = true;
    } catch (...) {
        escaped(self);
    }
}

} // namespace mpg::sched

inline mpg::unwound::~unwound() {
    if (copy_) return;
    sched::task* t = sched::current();
    // Of a task of another runtime, which has been joined: it may be caught.
    if (t->is_thread() || t->unwound_done || !t->rt->stopping.load(std::memory_order_relaxed)) return;
    if (t->swallowed++ == 0) {
        std::string name = sched::name_of(*t);
        sched::write_all(2, "mpg: unwound was swallowed by a catch in task " + std::to_string(t->id) +
                                (name.empty() ? "" : " \"" + name + "\"") + "; let it pass\n");
    }
}
