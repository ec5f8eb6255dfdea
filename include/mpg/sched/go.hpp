// go: start a task and forget it.
#pragma once

#include <mpg/sched/timers.hpp>
#include <mpg/sched/unwind.hpp>

#include <functional>
#include <stdexcept>
#include <tuple>
#include <type_traits>
#include <utility>

namespace mpg::sched {

/// The callable and its arguments, decay-copied as by std::thread.
template <class F, class... A> struct bound_call {
    F f;
    [[no_unique_address]] std::tuple<A...> args;
    template <class G, class... B>
    explicit bound_call(G&& g, B&&... b) : f(std::forward<G>(g)), args(std::forward<B>(b)...) {}
    decltype(auto) operator()() {
        return std::apply([this](A&... a) -> decltype(auto) { return std::invoke(std::move(f), std::move(a)...); },
                          args);
    }
};
template <class F, class... A> using bound_call_for = bound_call<std::decay_t<F>, std::decay_t<A>...>;

template <class C> void go_body(task& self, void* closure, closure_op op) {
    struct destroyer {
        task& t;
        ~destroyer() { destroy_closure<C>(t); }
    };
    run_guarded(self, [&] {
        destroyer d{self};
        if (op == closure_op::run) (*static_cast<C*>(closure))();
    });
}

/// Queues a task whose closure is in place. The caller has made it by take_record.
MPG_ALWAYS_INLINE void submit(runtime_section& here, runtime_state& rt, task* t) noexcept {
    t->set_state(task_state::fresh);
    probe::task_create(*t);
    processor* p = here.of(rt);
    sample_new(p, *t);
    if (p) [[likely]] {
        push_ring(*p, t);
        if (!p->alone) published(rt);
    } else {
        inject(rt, t);
    }
}
inline void submit(task* t) noexcept {
    runtime_section here;
    submit(here, *t->rt, t);
}

/// Takes back a record whose closure could not be made.
inline void cancel_record(task* t) noexcept {
    runtime_state& rt = *t->rt;
    t->refs.store(1, std::memory_order_relaxed);
    drop_record(t);
    rt.foreign_ended.fetch_add(1, std::memory_order_release);
}

/// An address in the code that this is inlined into.
MPG_ALWAYS_INLINE const void* here() noexcept {
    const void* pc;
#if defined(__x86_64__)
    asm volatile("leaq -1(%%rip), %0" : "=r"(pc)); // within this instruction, not at the next one
#else
    asm volatile("adr %0, ." : "=r"(pc));
#endif
    return pc;
}

/// A record set up for a new task of rt.
MPG_ALWAYS_INLINE task* new_task(runtime_section& here, runtime_state& rt, const void* created_at) {
    task* t = take_record(rt, here.of(rt));
    t->created_at = created_at;
    t->parent = here.m && here.m->cur ? here.m->cur->id : 0;
    t->no_unwind = t->blocking = t->no_suspend = 0;
    t->on_heap = false;
    t->unwound_done = false;
    t->standing = standing::neutral;
    t->swallowed = 0;
    t->futex.store(0, std::memory_order_relaxed);
    return t;
}
inline task* new_task(runtime_state& rt, const void* created_at) {
    runtime_section here;
    return new_task(here, rt, created_at);
}

/// Does it run no code of a user to make one of C's parts of an A?
template <class C, class A> inline constexpr bool made_by_copying = std::is_trivially_constructible_v<C, A>;

/// The runtime that new work of the caller belongs to. Throws std::logic_error when there is none.
inline runtime_state& runtime_for_new_work() {
    machine* m = this_machine();
    if (m && m->rt) [[likely]] return *m->rt;
    runtime_state* found = nullptr;
    registry::instance().with_default([&](runtime_state& rt) { found = &rt; });
    if (!found) throw std::logic_error("mpg: no runtime is alive to run a task");
    return *found;
}

template <class F, class... A> void go_on(runtime_state& rt, const void* created_at, F&& f, A&&... args) {
    using closure = bound_call_for<F, A...>;
    if (rt.stopping.load(std::memory_order_relaxed)) [[unlikely]] {
        if (rt.forked.load(std::memory_order_relaxed)) used_after_fork();
        closure destroyed(std::forward<F>(f), std::forward<A>(args)...); // as a task that never started
        return;
    }
    if constexpr (task::fits<closure> && made_by_copying<std::decay_t<F>, F> && (made_by_copying<std::decay_t<A>, A> && ...)) {
        runtime_section here;
        task* t = new_task(here, rt, created_at);
        emplace_closure<closure>(*t, &go_body<closure>, std::forward<F>(f), std::forward<A>(args)...);
        return submit(here, rt, t);
    }
    task* t = new_task(rt, created_at);
    try {
        emplace_closure<closure>(*t, &go_body<closure>, std::forward<F>(f), std::forward<A>(args)...);
    } catch (...) {
        cancel_record(t);
        throw;
    }
    submit(t);
}

} // namespace mpg::sched

namespace mpg {

/// Starts a task that runs f(args...), decay-copied as by std::thread. It belongs to the caller's runtime, on a plain
/// thread to the default one (std::logic_error when none is alive). An exception that leaves f ends the process.
/// Does not suspend. About 25 ns; costs a record of 256 bytes until the task starts, then a stack.
template <class F, class... Args>
    requires std::invocable<std::decay_t<F>, std::decay_t<Args>...>
MPG_ALWAYS_INLINE void go(F&& f, Args&&... args) {
    sched::go_on(sched::runtime_for_new_work(), sched::here(), std::forward<F>(f), std::forward<Args>(args)...);
}

} // namespace mpg
