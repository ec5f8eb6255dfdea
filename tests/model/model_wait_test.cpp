// multi_wait, the fired word under select and the timed and cancellable forms: one source wins, the strand goes on once,
// sees what the winner wrote, and its frame may die at once.
//
// ctest: no-asan the stacks of abandoned fibers stay poisoned; there is one thread, and nothing is freed early
// ctest: no-tsan there is one thread
#include "model/support.hpp"

#include <mpg/sched/wait.hpp>

#include <gtest/gtest.h>

#include <array>
#include <mutex>
#include <optional>

namespace mpg::sched {

/// A strand: parked until its event is set, which must happen once.
struct task {
    model::event go;
    int readied = 0;
};
task* current() noexcept { return nullptr; } // the strands are named explicitly
void ready(task* t) noexcept {
    model::require(++t->readied == 1, "a strand is readied once");
    t->go.set();
}
void ready_later(task* t) noexcept { ready(t); }

} // namespace mpg::sched

namespace {

using namespace mpg::model;
using mpg::sched::multi_wait;
using mpg::sched::task;
using claim_result = multi_wait::claim_result;

/// A source: a channel, a timer, a context. Its lock guards the link to the waiter.
struct source {
    mutex lock;
    multi_wait* waiter = nullptr;
};

template <std::size_t Sources> struct state {
    task strand;
    std::optional<multi_wait> multi{std::in_place, &strand};
    std::array<source, Sources> sources;
    plain<int> value{-1}; // in the strand's frame: the winner writes it
    int winners = 0;

    /// Somebody comes along at a source. Early: lets go of the lock before the wake.
    void fire(std::size_t i, bool early) {
        source& s = sources[i];
        std::unique_lock hold(s.lock);
        multi_wait* w = std::exchange(s.waiter, nullptr);
        if (!w) return;
        auto how = w->claim(static_cast<std::uint32_t>(i));
        if (how == claim_result::lost) return;
        ++winners;
        value = static_cast<int>(i);
        if (early) hold.unlock();
        w->wake(how);
    }
    /// The strand after its park, on whatever machine.
    void go_on() {
        strand.go.wait();
        auto winner = static_cast<int>(multi->winner());
        for (source& s : sources) {
            std::lock_guard hold(s.lock);
            s.waiter = nullptr;
        }
        require(value == winner, "the winner's value is seen");
        multi.reset(); // its frame ends
    }
};

/// The strand has linked its waiters. Its machine commits the park, and the sources fire at any time.
template <std::size_t Sources, bool Early> void select(program& p) {
    auto s = std::make_shared<state<Sources>>();
    for (source& x : s->sources) x.waiter = &*s->multi;
    p.thread([=] { s->multi->commit(); });
    p.thread([=] { s->go_on(); });
    for (std::size_t i = 0; i != Sources; ++i)
        p.thread([=] { s->fire(i, Early); });
    p.finally([=] { require(s->winners == 1, "one source won"); });
}

TEST(model_wait, one_source_wakes_the_strand) { expect_holds(select<1, false>); }
TEST(model_wait, of_two_sources_one_wins) { expect_holds(select<2, false>); }
TEST(model_wait, the_lock_may_go_before_the_wake) {
    expect_holds(select<1, true>);
    expect_holds(select<2, true>);
}

TEST(model_wait, mutants_are_found) {
    expect_survivors("sched/wait.hpp", {select<1, false>, select<1, true>, select<2, false>},
                     {
                         // The winner's value travels with `done`, or with ready() itself.
                         "claim: rmw acq_rel, without release",
                         // Only a failed exchange has something to learn (and that mutant is found).
                         "commit: rmw acq_rel, without acquire",
                         "commit: rmw acq_rel, without acquire",
                     });
}

} // namespace
