// What an idle P takes from another one, and what it leaves there.
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/select.hpp>
#include <mpg/sync.hpp>

#include <atomic>
#include <chrono>
#include <optional>

namespace {

using namespace std::chrono_literals;

std::uint64_t steals() { return mpg::runtime::current()->stats().steals; }

/// Two tasks that receive and two that send, each whichever of three channels comes first. Steals for each item.
double meet(int items) {
    mpg::chan<int> a, b, c;
    mpg::chan<void> done;
    mpg::wait_group ended;
    ended.add(2);
    const std::uint64_t before = steals();
    for (int i = 0; i < 2; ++i)
        mpg::go([=, &ended] {
            mpg::go([=] {
                for (bool on = true; on;)
                    mpg::select(mpg::on_send(a, 0), mpg::on_send(b, 0), mpg::on_send(c, 0), mpg::on_recv(done, [&](bool) { on = false; }));
            });
            auto ignore = [](std::optional<int>) {};
            for (int k = 0; k < items / 2; ++k) mpg::select(mpg::on_recv(a, ignore), mpg::on_recv(b, ignore), mpg::on_recv(c, ignore));
            ended.done();
        });
    ended.wait();
    done.close();
    return static_cast<double>(steals() - before) / items;
}

/// While there is nothing to take a P waits in its poller.
struct stealing : testing::TestWithParam<mpg::netpoll> {
  protected:
    static mpg::options two_ps() {
        mpg::options o;
        o.procs = 2;
        o.backend = GetParam();
        return o;
    }
};
INSTANTIATE_TEST_SUITE_P(pollers, stealing, testing::Values(mpg::netpoll::io_uring, mpg::netpoll::epoll));

// Without restraint there is a theft for each four items, and an item takes four times as long.
TEST_P(stealing, tasks_that_hand_over_to_each_other_are_left_together) {
    mpg::run(two_ps(), [] { EXPECT_LT(meet(400'000), 0.05); });
}

// Nobody is preempted here: without a thief they would wait for ever.
TEST_P(stealing, who_stands_behind_one_that_computes_is_taken_also_after_futile_thefts) {
    mpg::options o = two_ps();
    o.preempt_after = 0s;
    mpg::run(o, [] {
        for (int round = 0; round < 20; ++round) {
            meet(20'000);
            for (int waiting : {1, 2, 8, 9, 100}) {
                std::atomic<int> ran{0};
                for (int i = 0; i < waiting; ++i) mpg::go([&] { ++ran; });
                const auto until = std::chrono::steady_clock::now() + 10s;
                while (ran < waiting && std::chrono::steady_clock::now() < until) {
                }
                ASSERT_EQ(ran, waiting);
            }
        }
    });
}

} // namespace
