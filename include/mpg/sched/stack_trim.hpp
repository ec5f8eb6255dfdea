// Giving back the pages of a stack that its task has used and will not use soon.
#pragma once

#include <mpg/base/config.hpp>
#include <mpg/fiber/stack_pool.hpp>
#include <mpg/sched/runtime_state.hpp>
#include <mpg/sched/task.hpp>
#include <mpg/sched/wait.hpp>

#include <cstdint>
#include <sys/mman.h>

namespace mpg::sched {

/// Returns to the system what lies below this call on the current task's stack. For a task that has been deep and now
/// waits for long, as an idle connection does. A system call, 1 us; without effect on a plain thread.
MPG_NOINLINE inline void trim_stack() noexcept {
    constexpr std::uintptr_t page = fiber::stack_pool::page, room = 1024; // for the frames of the call itself
    const task* t = current();
    if (t->is_thread() || !t->stack) return;
    const auto low = reinterpret_cast<std::uintptr_t>(t->stack) + t->rt->stacks.guard_bytes(); // where a canary may be
    const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    if (here < low || here > low + t->rt->stacks.slot_bytes()) return;
    const std::uintptr_t high = (here - room) / page * page;
    if (high > low) ::madvise(reinterpret_cast<void*>(low), high - low, MADV_DONTNEED);
}

} // namespace mpg::sched
