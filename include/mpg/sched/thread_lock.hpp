// thread_lock: a task that stays on its OS thread, alone (runtime.LockOSThread).
#pragma once

#include <mpg/sched/scheduler.hpp>

namespace mpg {

/// While one exists in a task, the task runs on one OS thread, and no other task does: for thread-local state of
/// foreign libraries, per-thread credentials, namespaces. Nests. Each wait of the task then costs two thread
/// switches. On a plain thread: nothing. A task may end while it holds one.
class [[nodiscard]] thread_lock {
  public:
    thread_lock() noexcept : task_(sched::current()) {
        if (task_->is_thread()) return;
        outermost_ = task_->bound == nullptr;
        if (outermost_) {
            sched::machine* m = sched::this_machine();
            task_->bound = m;
            m->locked = true;
        }
    }
    ~thread_lock() {
        if (!outermost_ || !task_->bound) return;
        task_->bound->locked = false;
        task_->bound = nullptr;
    }
    thread_lock(const thread_lock&) = delete;
    thread_lock& operator=(const thread_lock&) = delete;

  private:
    sched::task* task_;
    bool outermost_ = false;
};

} // namespace mpg
