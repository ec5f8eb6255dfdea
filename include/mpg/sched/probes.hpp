// Where others may look on: USDT probes (provider mpg) for eBPF, SystemTap and perf, and the flight recorder.
//
// A probe is one nop and a note in the file that says where its arguments are, where <sys/sdt.h> is installed (Debian:
// systemtap-sdt-dev), else nothing. The recorder (debug/trace.hpp) costs a load and a branch while it is off.
//
//   task__create(id, fn)     fn: the function that runs the task's closure; its name has the closure's type
//   task__start(id, p)       it begins, or goes on, on P number p (4294967295: on a thread without a P)
//   task__block(id, reason)  it is about to wait; reason: a wait_reason
//   task__ready(id)          somebody has woken it
//   task__end(id)
//   steal(p, victim, n)      P p has taken n tasks from P victim
//   handoff(p, thread)       P p goes to another machine; thread: its thread's id, 0 for a new one
//   preempt(id, p)           the task has lost P p after its time slice
#pragma once

#include <mpg/base/config.hpp>
#include <mpg/sched/runtime_state.hpp>

#include <cstdint>

#if defined(__has_include)
#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>
#endif
#endif
#if defined(STAP_PROBE3)
#define MPG_PROBE1(name, a) STAP_PROBE1(mpg, name, a)
#define MPG_PROBE2(name, a, b) do { STAP_PROBE2(mpg, name, a, b); } while (false)
#define MPG_PROBE3(name, a, b, c) STAP_PROBE3(mpg, name, a, b, c)
#else
#define MPG_PROBE1(name, a) static_cast<void>(a)
#define MPG_PROBE2(name, a, b) (static_cast<void>(a), static_cast<void>(b))
#define MPG_PROBE3(name, a, b, c) (static_cast<void>(a), static_cast<void>(b), static_cast<void>(c))
#endif

// Compilers judge an asm by the length of its text and would no longer inline the functions that have probes, though a
// probe is one nop; `asm inline` says so. <sys/sdt.h> does not write that, so it is put in where its macros are expanded:
// from here to the end of this file.
#pragma push_macro("__asm__")
#undef __asm__
#define __asm__ __asm__ inline

namespace mpg::sched::probe {

[[gnu::cold]] MPG_NOINLINE inline void record_slow(runtime_state& rt, trace_event event, std::uint64_t a,
                                                   std::uint64_t b) noexcept {
    if (auto* f = rt.trace.record.load(std::memory_order_acquire)) f(rt, event, a, b); // pairs with: start_trace
}
MPG_ALWAYS_INLINE void record(runtime_state& rt, trace_event event, std::uint64_t a, std::uint64_t b = 0) noexcept {
    if (rt.trace.record.load(std::memory_order_relaxed)) [[unlikely]] record_slow(rt, event, a, b);
}

MPG_ALWAYS_INLINE void task_create(const task& t) noexcept {
    MPG_PROBE2(task__create, t.id, t.body);
    record(*t.rt, trace_event::create, t.id, reinterpret_cast<std::uint64_t>(t.created_at));
}
MPG_ALWAYS_INLINE void task_start(const task& t, [[maybe_unused]] const processor* p) noexcept {
    if (p) [[likely]]
        MPG_PROBE2(task__start, t.id, p->index);
    else
        MPG_PROBE2(task__start, t.id, ~std::uint32_t{0});
    record(*t.rt, trace_event::start, t.id);
}
MPG_ALWAYS_INLINE void task_block(const task& t, wait_reason why) noexcept {
    MPG_PROBE2(task__block, t.id, static_cast<std::uint32_t>(why));
    record(*t.rt, trace_event::block, t.id, static_cast<std::uint64_t>(why));
}
MPG_ALWAYS_INLINE void task_ready(const task& t) noexcept {
    MPG_PROBE1(task__ready, t.id);
    record(*t.rt, trace_event::ready, t.id);
}
MPG_ALWAYS_INLINE void task_end(const task& t) noexcept {
    MPG_PROBE1(task__end, t.id);
    record(*t.rt, trace_event::end, t.id);
}
MPG_ALWAYS_INLINE void steal(runtime_state& rt, const processor& p, const processor& victim, std::uint32_t n) noexcept {
    MPG_PROBE3(steal, p.index, victim.index, n);
    record(rt, trace_event::steal, victim.index, n);
}
MPG_ALWAYS_INLINE void handoff(runtime_state& rt, const processor& p, const machine& to) noexcept {
    MPG_PROBE2(handoff, p.index, to.tid.load(std::memory_order_relaxed));
    record(rt, trace_event::handoff, p.index);
}
MPG_ALWAYS_INLINE void preempt(const task& t, [[maybe_unused]] const processor& p) noexcept {
    MPG_PROBE2(preempt, t.id, p.index);
    record(*t.rt, trace_event::preempt, t.id);
}

} // namespace mpg::sched::probe

#pragma pop_macro("__asm__")
