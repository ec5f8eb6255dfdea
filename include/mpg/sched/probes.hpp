// Where others may look on: USDT probes (provider mpg) for eBPF, SystemTap and perf, and the flight recorder.
//
// A probe is one nop and a note in the file that says where its arguments are (usdt.hpp). The recorder (events.hpp) costs a load and
// a branch while it is off.
//
//   task__create(id, fn, site)  fn: the function that runs the task's closure; its name has the closure's type.
//                            site: an address in the code that starts it
//   task__start(id, p, site) it begins, or goes on, on P number p (4294967295: on a thread without a P)
//   task__block(id, reason)  it is about to wait; reason: a wait_reason
//   task__ready(id)          somebody has woken it
//   task__end(id)
//   steal(p, victim, n)      P p has taken n tasks from P victim
//   handoff(p, thread)       P p goes to another machine; thread: its thread's id, 0 for a new one
//   preempt(id, p)           the task has lost P p after its time slice
#pragma once

#include <mpg/base/config.hpp>
#include <mpg/sched/runtime_state.hpp>
#include <mpg/sched/usdt.hpp>

#include <cstdint>
#include <mutex>
#include <utility>

namespace mpg::sched::probe {

// Recording is on: Write(event_ring&, about...) for the current P's ring, or for that of those without one, under its lock.
// The words are handed on in registers, so that the usual way needs no frame.

template <auto Write, class... About>
[[gnu::cold]] MPG_NOINLINE void without_p(runtime_state& rt, About... about) noexcept {
    std::lock_guard hold(rt.trace.others_lock);
    Write(*rt.trace.others, about...);
}
template <auto Write, class... About> MPG_ALWAYS_INLINE void with_ring(runtime_state& rt, About... about) noexcept {
    machine* m = this_machine();
    (void)rt.trace.recording.load(std::memory_order_acquire); // pairs with: start_trace: the rings are there
    if (m && m->rt == &rt && m->p) [[likely]] return Write(*m->p->events, about...);
    without_p<Write>(rt, about...);
}
MPG_NOINLINE inline void record_on(runtime_state& rt, trace_event event, std::uint64_t about) noexcept {
    with_ring<[](event_ring& r, trace_event e, std::uint64_t a) __attribute__((always_inline)) { r.write(e, a); }>(rt, event, about);
}
MPG_NOINLINE inline void record_at_once_on(runtime_state& rt, trace_event event, std::uint64_t about) noexcept {
    with_ring<[](event_ring& r, trace_event e, std::uint64_t a) __attribute__((always_inline)) { r.write_at_once(e, a); }>(rt, event, about);
}
/// All that one poll wakes has become ready when that was called.
MPG_NOINLINE inline void record_ready_on(runtime_state& rt, std::uint64_t id) noexcept {
    machine* m = this_machine();
    if (m && m->p && m->polling && std::exchange(m->stamped, true)) return record_at_once_on(rt, trace_event::ready, id);
    record_on(rt, trace_event::ready, id);
}
MPG_NOINLINE inline void record_create_on(runtime_state& rt, std::uint64_t id, const void* site) noexcept {
    with_ring<[](event_ring& r, std::uint64_t i, const void* s) __attribute__((always_inline)) {
        r.write_both(trace_event::create, i, trace_event::site, reinterpret_cast<std::uint64_t>(s));
    }>(rt, id, site);
}
/// block: as trace_event::block, 0: it yields; start: 0: nobody runs next.
MPG_NOINLINE inline void record_switch_on(runtime_state& rt, std::uint64_t block, std::uint64_t start) noexcept {
    with_ring<[](event_ring& r, std::uint64_t b, std::uint64_t s) __attribute__((always_inline)) {
        if (b != 0 && s != 0)
            r.write_both(trace_event::block, b, trace_event::start, s);
        else if (b != 0)
            r.write(trace_event::block, b);
        else if (s != 0)
            r.write(trace_event::start, s);
    }>(rt, block, start);
}
MPG_ALWAYS_INLINE bool recording(const runtime_state& rt) noexcept {
    return observable && rt.trace.recording.load(std::memory_order_relaxed);
}
MPG_ALWAYS_INLINE void record(runtime_state& rt, trace_event event, std::uint64_t about) noexcept {
    if (recording(rt)) [[unlikely]] record_on(rt, event, about);
}

MPG_ALWAYS_INLINE void task_create(const task& t) noexcept {
    MPG_PROBE3(task__create, t.id, t.body, t.created_at);
    if (recording(*t.rt)) [[unlikely]] record_create_on(*t.rt, t.id, t.created_at);
}
MPG_ALWAYS_INLINE void probe_start(const task& t, [[maybe_unused]] const processor* p) noexcept {
    if (p) [[likely]]
        MPG_PROBE3(task__start, t.id, p->index, t.created_at);
    else
        MPG_PROBE3(task__start, t.id, ~std::uint32_t{0}, t.created_at);
}
MPG_ALWAYS_INLINE void task_start(const task& t, const processor* p) noexcept {
    probe_start(t, p);
    record(*t.rt, trace_event::start, t.id);
}
/// Right after another task's end.
MPG_ALWAYS_INLINE void task_start_at_once(const task& t, const processor* p) noexcept {
    probe_start(t, p);
    if (recording(*t.rt)) [[unlikely]] record_at_once_on(*t.rt, trace_event::start, t.id);
}
MPG_ALWAYS_INLINE void probe_block(const task& t, wait_reason why) noexcept {
    MPG_PROBE2(task__block, t.id, static_cast<std::uint32_t>(why));
}
MPG_ALWAYS_INLINE std::uint64_t about_block(const task& t, wait_reason why) noexcept {
    return t.id | static_cast<std::uint64_t>(why) << 56;
}
MPG_ALWAYS_INLINE void task_block(const task& t, wait_reason why) noexcept {
    probe_block(t, why);
    record(*t.rt, trace_event::block, about_block(t, why));
}
/// t leaves its stack for next's, or for the scheduler (null). Beside probe_block and probe_start.
MPG_ALWAYS_INLINE void task_switch(const task& t, wait_reason why, const task* next) noexcept {
    if (recording(*t.rt)) [[unlikely]]
        record_switch_on(*t.rt, why == wait_reason::none ? 0 : about_block(t, why), next ? next->id : 0);
}
MPG_ALWAYS_INLINE void probe_ready(const task& t) noexcept { MPG_PROBE1(task__ready, t.id); }
MPG_ALWAYS_INLINE void task_ready(const task& t) noexcept {
    probe_ready(t);
    if (recording(*t.rt)) [[unlikely]] record_ready_on(*t.rt, t.id);
}
MPG_ALWAYS_INLINE void task_end(const task& t) noexcept {
    MPG_PROBE1(task__end, t.id);
    record(*t.rt, trace_event::end, t.id);
}
MPG_ALWAYS_INLINE void steal(runtime_state& rt, const processor& p, const processor& victim, std::uint32_t n) noexcept {
    MPG_PROBE3(steal, p.index, victim.index, n);
    record(rt, trace_event::steal, victim.index | std::uint64_t{n} << 32);
}
MPG_ALWAYS_INLINE void handoff(runtime_state& rt, const processor& p, const machine& to) noexcept {
    MPG_PROBE2(handoff, p.index, to.tid.load(std::memory_order_relaxed));
    record(rt, trace_event::handoff, p.index);
}
MPG_ALWAYS_INLINE void preempt(const task& t, [[maybe_unused]] const processor& p) noexcept {
    MPG_PROBE2(preempt, t.id, p.index);
    record(*t.rt, trace_event::preempt, t.id);
}

/// Makes the rings, if they are not there, and records from now on. Not concurrently for one runtime.
inline void start_recording(runtime_state& rt, std::size_t events) {
    if (!rt.trace.others) {
        for (auto& p : rt.ps) p->events = std::make_unique<event_ring>(events);
        rt.trace.first_ticks = cpu_ticks();
        rt.trace.first_time = base::now();
        rt.trace.others = std::make_unique<event_ring>(events);
    }
    rt.trace.recording.store(true, std::memory_order_release); // pairs with: with_ring
    for (auto& p : rt.ps) p->set_attention(attention::recorded, true);
}
inline void stop_recording(runtime_state& rt) noexcept {
    for (auto& p : rt.ps) p->set_attention(attention::recorded, false);
    rt.trace.recording.store(false, std::memory_order_relaxed);
}

} // namespace mpg::sched::probe
