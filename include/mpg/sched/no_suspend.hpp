// no_suspend: what holds something that belongs to the OS thread says that it will not wait meanwhile.
#pragma once

#include <mpg/sched/scheduler.hpp>

namespace mpg {

/// While one exists the task must not suspend; where assertions are on (NDEBUG is not defined) a switch to another task
/// ends the process with a message that names this one. For what a thread owns and a task must not carry to another
/// one: a std::recursive_mutex, std::shared_mutex or std::mutex (unlocked by another thread they are undefined), the
/// address of errno or of a thread_local. A task that must wait meanwhile takes a thread_lock instead, or mpg's own
/// mutexes. Nests. No effect on a plain thread, and in a task that holds a thread_lock. Idea: might_sleep of Linux.
class [[nodiscard]] no_suspend {
  public:
    no_suspend() noexcept : task_(sched::current()) { ++task_->no_suspend; }
    ~no_suspend() { --task_->no_suspend; }
    no_suspend(const no_suspend&) = delete;
    no_suspend& operator=(const no_suspend&) = delete;

  private:
    sched::task* task_;
};

} // namespace mpg
