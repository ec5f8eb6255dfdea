// What a runtime is started with, and what it tells.
#pragma once

#include <mpg/sched/poller.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace mpg {

/// A task that holds up others.
struct stall {
    std::uint64_t task = 0; // its id
    std::string name;
    std::string created_at;
    /// What it does: it computes, or its thread waits for the kernel or for a lock of the C++ library.
    enum class reason : std::uint8_t { computes, blocks } why = reason::computes;
    /// How much CPU time it has used, or for how long it has waited, since it last left its P.
    std::chrono::nanoseconds for_so_long{0};
    /// Where it stood soon after that was noticed, a frame a line; with <mpg/debug.hpp> only. "": it has moved on.
    std::string stack;
};

struct options {
    /// Number of Ps. 0: $MPG_PROCS, else the CPUs this process may use (affinity, capped by the cgroup quota).
    unsigned procs = 0;
    /// Bytes of address space per task; pages are used only when touched.
    std::size_t stack_size = 256 << 10;
    /// OS threads; needing one more is a fatal error.
    std::size_t max_threads = 10'000;
    /// A task that computes longer while others wait loses its P to them; 0 turns preemption off.
    std::chrono::nanoseconds preempt_after = std::chrono::milliseconds(10);
    /// How I/O waits; $MPG_NETPOLL overrides.
    netpoll backend = netpoll::automatic;
    bool detect_deadlock = true;
    /// Bytes of the guard below each stack, part of stack_size. A frame larger than it can jump over it unless the code
    /// is compiled with -fstack-clash-protection.
    std::size_t guard_size = 4 << 10;
    /// A task that computes or blocks its thread for so long without leaving its P, while others wait, is a stall:
    /// counted, and told to on_stall. 0: nobody looks.
    std::chrono::nanoseconds stall_after = std::chrono::milliseconds(100);
    /// Called once for each stall, on a thread of its own, not concurrently. It may take its time: of the stalls that come
    /// meanwhile the first sixteen are kept. It must not throw.
    std::function<void(const stall&)> on_stall = nullptr;
    /// The flight recorder is on from the start, and keeps so many events of each P (16 bytes each, rounded up to a power of
    /// two); <mpg/debug.hpp> writes what it has. 0: it is off until debug::start_trace.
    std::size_t record_events = 0;
};

/// How long tasks were runnable before they ran. A sample: one of 64, and all that foreign threads have woken.
struct latency_histogram {
    static constexpr std::size_t size = 32;
    std::array<std::uint64_t, size> counts{}; // [i]: at most upper(i), and more than upper(i - 1)

    static constexpr std::chrono::nanoseconds upper(std::size_t i) noexcept {
        return std::chrono::nanoseconds(std::int64_t{128} << i); // the last one: and whatever is longer
    }
    std::uint64_t total() const noexcept {
        std::uint64_t n = 0;
        for (std::uint64_t c : counts) n += c;
        return n;
    }
    /// The upper end of the bucket in which a share q of all lies, e.g. 0.99; zero when there are none.
    std::chrono::nanoseconds quantile(double q) const noexcept {
        const double rank = q * static_cast<double>(total());
        double n = 0;
        for (std::size_t i = 0; i < size; ++i)
            if (counts[i] != 0 && (n += static_cast<double>(counts[i])) >= rank) return upper(i);
        return {};
    }
};

/// A snapshot; the figures are read one after the other while the runtime goes on.
struct runtime_stats {
    unsigned procs = 0;
    std::size_t threads = 0, threads_idle = 0;
    std::uint64_t tasks = 0, tasks_created = 0;
    std::uint64_t tasks_runnable = 0, tasks_running = 0, tasks_waiting = 0, tasks_blocking = 0, tasks_frozen = 0;
    std::uint64_t steals = 0, preemptions = 0;
    std::uint64_t handoffs = 0;    // Ps given away by tasks that block, announced or not, or are locked to a thread
    std::string preemption_reason; // why computing tasks are not preempted; "": they are
    std::string retake_reason;     // why tasks that block unannounced keep their P; "": they do not
    netpoll poller = netpoll::none;
    std::string poller_reason;
    std::size_t stack_bytes_mapped = 0, stack_bytes_resident_estimate = 0;
    std::uint64_t dropped_exceptions = 0;
    std::uint64_t stalls = 0;          // see options::stall_after
    latency_histogram sched_latency;
    latency_histogram wait_time; // how long tasks were parked: one of 64 that a task of the runtime has woken
};

} // namespace mpg
