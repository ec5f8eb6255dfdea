// What a runtime is started with, and what it tells.
#pragma once

#include <mpg/sched/poller.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace mpg {

struct options {
    /// Number of Ps. 0: $MPG_PROCS, else the CPUs this process may use (affinity, capped by the cgroup quota).
    unsigned procs = 0;
    /// Bytes of address space per task; pages are used only when touched.
    std::size_t stack_size = 256 << 10;
    /// Bytes of the guard below each stack, part of stack_size. A frame larger than it can jump over it unless the code
    /// is compiled with -fstack-clash-protection.
    std::size_t guard_size = 4 << 10;
    /// OS threads; needing one more is a fatal error.
    std::size_t max_threads = 10'000;
    /// A task that computes longer while others wait loses its P to them; 0 turns preemption off.
    std::chrono::nanoseconds preempt_after = std::chrono::milliseconds(10);
    /// How I/O waits; $MPG_NETPOLL overrides.
    netpoll backend = netpoll::automatic;
    bool detect_deadlock = true;
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
};

} // namespace mpg
