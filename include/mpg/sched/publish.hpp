// From when on a task that waits may be found by who wakes it, and so be run by another machine.
//
// It may not be run before its registers are saved. So its wait is published by the machine when it has left the task's stack.
// Where there is no other P the wait is published at once: who wakes the task puts it on a queue, and from there only the
// machine that holds the P takes it, which nobody takes away from a machine in the runtime (retake.hpp).
//
// Templates, so that the model (tests/model) runs the same lines as the runtime.
#pragma once

#include <mpg/base/config.hpp>

namespace mpg::sched {

/// m, which holds p and is in the runtime, leaves a task whose wait commit(arg) makes visible.
template <class Machine, class Processor>
MPG_ALWAYS_INLINE void publish_wait(Machine& m, const Processor& p, void (*commit)(void*) noexcept, void* arg) noexcept {
    if (p.alone) {
        commit(arg);
    } else {
        m.finish = commit;
        m.finish_arg = arg;
    }
}

/// On another stack: what is left of it.
template <class Machine> MPG_ALWAYS_INLINE void run_finish(Machine* m) noexcept {
    if (void (*f)(void*) noexcept = m->finish) {
        m->finish = nullptr;
        f(m->finish_arg);
    }
}

} // namespace mpg::sched
