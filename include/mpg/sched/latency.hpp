// How long runnable tasks wait for their turn: a sample, cheap enough to be always on (Go: runtime/metrics,
// /sched/latencies).
//
// A sample has the time noted in its records: each 64th new task, those whom a P wakes between two of its switches out of 64,
// and all that are made runnable without a P (then the global queue costs more than the clock). Who starts such a one counts it in
// his own P's histogram. The others pay for a load and a branch there, and again here: tasks and switches are counted anyway. Each
// 61st switch counts twice, so of tasks that take turns it is not always the same one. Who yields is not measured. Times are kept
// in units of 128 ns in 32 bits: waits of up to nine minutes.
#pragma once

#include <mpg/sched/processor.hpp>

#include <bit>

namespace mpg::sched {

inline std::uint32_t latency_clock() noexcept { return static_cast<std::uint32_t>(base::now() >> 7); }

inline std::size_t latency_bucket(std::uint64_t units) noexcept {
    // Rounded to units of 128 ns: at most 1 is bucket 0, 2 is 1, 3 and 4 are 2.
    const auto bucket = units <= 1 ? 0u : static_cast<unsigned>(std::bit_width(units - 1));
    return std::min<std::size_t>(bucket, latency_histogram::size - 1);
}

[[gnu::cold]] MPG_NOINLINE inline void note_ready(processor* p, task& t, bool waited) noexcept {
    // The wait began when the task left its stack, by a clock that may be a scheduler visit old.
    if (p && waited) bump(p->waited[latency_bucket(static_cast<std::uint64_t>(std::max<base::nanos>(base::now() - t.since, 0)) >> 7)]);
    const std::uint32_t now = latency_clock();
    t.futex.store(now != 0 ? now : 1, std::memory_order_relaxed); // goes with the task, through the queue
}
/// Are those whom p wakes now measured?
MPG_ALWAYS_INLINE bool in_sample(const processor& p) noexcept {
    return observable && p.tick.load(std::memory_order_relaxed) % 64 == 0;
}
/// t, which is not new, is about to be put on a queue by a machine with p, or by somebody without a P of its runtime.
MPG_ALWAYS_INLINE void sample_ready(processor* p, task& t) noexcept {
    if (observable && (!p || in_sample(*p))) [[unlikely]] note_ready(p, t, true);
}
/// The same for one that is new.
MPG_ALWAYS_INLINE void sample_new(processor* p, task& t) noexcept {
    if (observable && (!p || t.id % 64 == 0)) [[unlikely]] note_ready(p, t, false);
}

[[gnu::cold]] MPG_NOINLINE inline void count_latency(processor* p, task& t) noexcept {
    const std::uint32_t waited = latency_clock() - t.futex.load(std::memory_order_relaxed);
    t.futex.store(0, std::memory_order_relaxed);
    if (!p) return;
    bump(p->latency[latency_bucket(waited)]);
}
/// t begins to run on the machine that holds p.
MPG_ALWAYS_INLINE void sample_start(processor* p, task& t) noexcept {
    if (observable && t.futex.load(std::memory_order_relaxed) != 0) [[unlikely]] count_latency(p, t);
}

} // namespace mpg::sched
