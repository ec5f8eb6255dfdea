// Arming timers: which wheel, and who must be told.
#pragma once

#include <mpg/sched/fatal.hpp>
#include <mpg/sched/scheduler.hpp>

#include <stdexcept>
#include <utility>

namespace mpg::sched {

inline void arm_in(processor& p, timer_node& node, base::nanos deadline, bool own) noexcept {
    if (p.wheel->arm(node, deadline) && !own) serve(p);
}

inline void arm(timer_node& node, base::nanos deadline) {
    if (deadline == base::never) return;
    runtime_section here; // the P must stay ours until it is known who sleeps until when
    machine* m = here.m;
    // A callback that arms its own node again does it in the wheel that fires it: disarm waits there.
    if (timer_wheel* w = node.wheel.load(std::memory_order_relaxed); w && w->is_firing(node)) {
        w->arm(node, deadline);
        return;
    }
    if (m && m->rt) {
        if (m->rt->stopping.load(std::memory_order_relaxed) && m->rt->forked.load(std::memory_order_relaxed)) [[unlikely]]
            used_after_fork(); // it would never fire
        if (m->p) return arm_in(*m->p, node, deadline, true);
        return arm_in(*m->rt->ps[0], node, deadline, false); // in blocking()
    }
    if (node.of_wait) { // while a thread waits it has nothing else to do, and the wait may outlive every runtime
        node.deadline = deadline;
        (m ? m : make_stand_in())->alarm = &node;
        return;
    }
    if (!registry::instance().with_default([&](runtime_state& rt) { arm_in(*rt.ps[0], node, deadline, false); }))
        throw std::logic_error("mpg: a timer needs a runtime, and none is alive");
}

inline bool disarm(timer_node& node) noexcept {
    timer_wheel* w = node.wheel.load(std::memory_order_acquire); // pairs with: timer_wheel::arm
    if (w) return w->disarm(node);
    machine* m = node.of_wait ? this_machine() : nullptr;
    return m && m->alarm == &node && std::exchange(m->alarm, nullptr);
}

inline disarmed try_disarm(timer_node& node) noexcept {
    timer_wheel* w = node.wheel.load(std::memory_order_acquire); // pairs with: timer_wheel::arm
    bool unlinked = false;
    return w ? w->try_disarm(node, unlinked) : disarmed::idle;
}

/// Something was started in `by`, which was the caller's poller when it looked. When that is another's by now, or was lent to
/// a caller without a P, its P may be bare, or its machine about to sleep: it is made to look.
inline void attend(const poller* by) noexcept {
    machine* m = this_machine();
    if (m->p && m->p->poll.get() == by) [[likely]] return;
    base::fence(std::memory_order_seq_cst); // pairs with: blocking_section::leave_p
    for (auto& p : m->rt->ps)
        if (p->poll.get() == by) return serve(*p);
}

inline poller* current_poller() noexcept {
    machine* m = this_machine();
    if (m && m->p) return m->p->poll.get();
    if (m && m->rt) return m->rt->ps[0]->poll.get();
    poller* p = nullptr;
    registry::instance().with_default([&](runtime_state& rt) { p = rt.ps[0]->poll.get(); });
    return p;
}

} // namespace mpg::sched
