// The waiting of sched, in so many lines: strands are the model's threads, and a strand's park is that of a plain thread.
#pragma once

#include "model/support.hpp"

#include <mpg/base/clock.hpp>
#include <mpg/base/random.hpp>
#include <mpg/sched/timer.hpp>
#include <mpg/sched/wait.hpp>

#include <array>
#include <memory>

namespace mpg::sched {

struct task {
    model::event go;
    std::uint64_t thrown = 0;
};
inline std::array<std::unique_ptr<task>, model::max_threads> strands; // of one execution
inline void new_strands() {
    for (auto& s : strands) s = std::make_unique<task>();
}

inline task* current() noexcept { return strands[model::explorer::current().thread_index()].get(); }
inline void suspension_point() {}
inline std::uint64_t random_bits() noexcept { return base::random(++current()->thrown).next(); } // executions repeat
inline bool others_run() noexcept { return false; }
inline unsigned place() noexcept { return model::explorer::current().thread_index(); }
inline unsigned places() noexcept { return 2; }
inline void passes_by() noexcept {}
inline void contention_ended(base::nanos, const void*) noexcept {}
inline bool contention_watched() noexcept { return false; }
inline bool park(const park_ops& ops, void* arg) noexcept {
    task* self = current();
    ops.commit(arg);
    self->go.wait();
    return true;
}
inline bool park_here(const park_ops& ops, void* arg) { return park(ops, arg); }
inline void ready(task* t) noexcept { t->go.set(); }
inline void ready_later(task* t) noexcept { t->go.set(); }
inline void arm(timer_node&, base::nanos) { model::require(false, "no timers here"); }
inline bool disarm(timer_node&) noexcept { return false; }

} // namespace mpg::sched
