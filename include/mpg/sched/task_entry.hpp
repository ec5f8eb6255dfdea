// The life of a task on its stack: from the first instruction there to the end, and on to the next task.
//
// A task that ends calls the next one on its own stack if that has not started yet; else it leaves the stack for good, and
// the stack is released by who comes after.
#pragma once

#include <mpg/sched/switch.hpp>

#include <mutex>
#include <utility>

namespace mpg::sched {

MPG_NOINLINE inline void destroy_extras(task* t) noexcept {
    while (task_extras* x = t->extras) {
        if (x->destroy_locals && x->locals) {
            void* locals = std::exchange(x->locals, nullptr);
            x->destroy_locals(locals); // may make new ones
            continue;
        }
        {
            std::lock_guard hold(t->rt->names_lock);
            t->extras = nullptr;
        }
        delete x;
    }
}

/// Runs one task to its end, on the stack that is bound to it. Returns on the machine where it ended, in the runtime.
inline void run_task(task* t) noexcept {
    bool start = !t->rt->stopping.load(std::memory_order_relaxed);
    leave_runtime(*this_machine());
    t->body(*t, t->closure(), start ? closure_op::run : closure_op::destroy);
    if (t->extras) [[unlikely]] destroy_extras(t);
    enter_runtime(*this_machine());
    if (t->bound) [[unlikely]] { // it ends with a thread_lock
        t->bound->locked = false;
        t->bound = nullptr;
    }
    probe::task_end(*t);
    t->set_state(task_state::ended);
}

/// After the switch away from the stack of a task that ended.
inline void release_stack(void* stack) noexcept {
    machine* m = this_machine();
    if (m->p)
        m->p->stacks.release(static_cast<char*>(stack));
    else {
        char* one = static_cast<char*>(stack);
        m->rt->stacks.release(&one, 1);
    }
}

#if defined(MPG_ASAN) || defined(MPG_TSAN)
struct ended_stack {
    char* stack;
    fiber::execution ex;
};
/// Sanitizer builds: the fiber is destroyed once it is left.
inline void release_execution(void* arg) noexcept {
    auto* e = static_cast<ended_stack*>(arg);
    fiber::end_execution(e->ex);
    char* stack = e->stack;
    delete e;
    release_stack(stack);
}
#endif

/// One more task of rt has ended, on m. In the runtime.
MPG_ALWAYS_INLINE void count_ended(machine* m, runtime_state& rt) noexcept {
    if (processor* p = m->p) [[likely]]
        p->ended.store(p->ended.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    else
        rt.foreign_ended.fetch_add(1, std::memory_order_release); // both pair with: runtime_state::live
}

/// The record of an ended task goes; it counts as ended. In the runtime.
MPG_ALWAYS_INLINE void retire(machine* m, task* t) noexcept {
    runtime_state& rt = *t->rt;
    if (drops_last(t)) free_record(t, m->p);
    count_ended(m, rt);
}

/// Everything that runs on a task's stack starts here.
[[noreturn]] inline void task_entry() noexcept {
    machine* m = this_machine();
    fiber::arrived(m->cur->ex);
    run_finish(m);
    for (;;) {
        task* t = this_machine()->cur;
        run_task(t);
        m = this_machine();
        char* stack = t->stack;
        t->stack = nullptr;
#if defined(MPG_ASAN) || defined(MPG_TSAN)
        m->ended.sanitizer = t->ex.sanitizer;
#endif
        retire(m, t);

        processor* p = m->p;
        task* next = nullptr;
#if !defined(MPG_ASAN) && !defined(MPG_TSAN)
        // The next one has not started: call it right here.
        if (p && !m->locked && !p->called()) [[likely]] {
            next = take_local(*p);
            if (next && next->get_state() == task_state::fresh && !next->bound && bump(p->tick) % 61 != 0) [[likely]] {
                next->stack = stack;
                fiber::start_over(m->anchor);
                m->cur = next;
                begin_run_at_once(m, *next);
                continue;
            }
            if (next) {
                if (next->bound || next->get_state() == task_state::fresh) {
                    p->runnext.store(next, std::memory_order_relaxed); // the scheduler's business
                    next = nullptr;
                } else {
                    bump(p->tick);
                }
            }
        }
        m->finish = release_stack;
        m->finish_arg = stack;
#else
        (void)p;
        m->finish = release_execution;
        m->finish_arg = new ended_stack{stack, m->ended};
#endif
        m->cur = next;
        if (next) begin_run_at_once(m, *next);
        // What is saved of this stack, which is left, stands in the machine: the next one's stack must not keep its address.
        fiber::switch_execution(m->ended, next ? next->ex : m->g0, m->anchor, true);
        __builtin_unreachable();
    }
}

} // namespace mpg::sched
