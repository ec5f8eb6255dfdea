// The waiting of sched, in so many lines: strands are the model's threads, and a strand's park is that of a plain thread.
#pragma once

#include "model/support.hpp"

#include <mpg/base/clock.hpp>
#include <mpg/base/random.hpp>
#include <mpg/sched/bias.hpp>
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

// What a program makes is at home with its first strand, which holds the only P, when at_home makes the program.
struct processor {
    home* locks = nullptr;
};
struct machine {
    base::atomic<retake> retaken{retake::no};
    processor* p = nullptr;
};
inline std::unique_ptr<home> home_to_be, the_home; // of one execution
template <void (*Setup)(model::program&)> void at_home(model::program& p) {
    home_to_be = std::make_unique<home>();
    Setup(p);
    the_home = std::move(home_to_be);
}
class local_bias {
  public:
    local_bias() {
        if (!home_to_be) return;
        bias_.settle(home_to_be.get());
        p_.locks = home_to_be.get();
        m_.p = &p_;
    }
    bool is_nobodys() const { return bias_.is_nobodys(); }
    bool enter() { return model::explorer::current().thread_index() == 1 && bias_.enter(m_); }
    void leave() { bias_.leave(); }
    void make_common() {
        if (!is_nobodys())
            bias_.revoke([] { model::explorer::current().fence_all(); }, [] { model::explorer::current().yield(); });
    }

  private:
    processor p_;
    machine m_; // of the first strand; nobody takes its P
    bias bias_;
};

} // namespace mpg::sched
