// What a task knows of itself.
#pragma once

#include <mpg/sched/unwind.hpp>

#include <string>
#include <string_view>

namespace mpg::sched {

inline task_extras& extras_of(task& t) {
    if (!t.extras) {
        auto* x = new task_extras;
        if (t.rt) {
            std::lock_guard hold(t.rt->names_lock);
            t.extras = x;
        } else {
            t.extras = x;
        }
    }
    return *t.extras;
}

} // namespace mpg::sched

namespace mpg::this_task {

/// Is the caller a task?
inline bool inside() noexcept { return !sched::current()->is_thread(); }

/// Unique among the tasks of its runtime; 0 on a plain thread.
inline std::uint64_t id() noexcept { return sched::current()->id; }

/// Shown in dumps and messages. On a plain thread: nothing happens.
inline void set_name(std::string_view name) {
    sched::task* t = sched::current();
    if (t->is_thread()) return;
    sched::task_extras& x = sched::extras_of(*t);
    std::string copy(name);
    std::lock_guard hold(t->rt->names_lock);
    x.name.swap(copy);
}

/// Valid until the next set_name of this task, or its end. Empty when it has none.
inline std::string_view name() noexcept {
    sched::task* t = sched::current();
    return t->extras ? std::string_view(t->extras->name) : std::string_view();
}

} // namespace mpg::this_task
