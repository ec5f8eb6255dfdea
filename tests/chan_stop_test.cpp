// A runtime that stops while tasks wait in every kind of channel operation.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/select.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

namespace {

using mpg::chan;
using mpg::on_recv;
using mpg::on_send;
using namespace std::chrono_literals;

struct chan_stop : mpg::test::with_procs {};
MPG_TEST_PROCS(chan_stop);

struct on_exit {
    std::atomic<int>& count;
    ~on_exit() { ++count; }
};

TEST_P(chan_stop, unwinds_every_kind_of_wait) {
    std::atomic<int> begun{0}, ended{0};
    chan<int> empty, full(1), outlives;
    full.send(1);
    run([&] {
        auto go = [&](auto f) {
            mpg::go([&, f] {
                on_exit mark{ended};
                ++begun;
                f();
                ADD_FAILURE() << "went on";
            });
        };
        go([&] { (void)empty.recv(); });
        go([&] { full.send(2); });
        go([&] {
            int v = 0;
            (void)empty.recv_for(v, 1h);
        });
        go([&] {
            int v = 0;
            (void)full.send_for(v, 1h);
        });
        go([&] { mpg::select(on_recv(empty), on_send(full, 1), on_recv(outlives)); });
        go([&] { mpg::select(on_recv(empty), mpg::on_timeout(1h)); });
        go([&] { mpg::select_set().recv(empty).send(full, 3).wait(); });
        go([&] {
            for ([[maybe_unused]] int v : outlives) {
            }
        });
        go([&] { chan<int>().send(1); }); // the channel dies with the task
        EXPECT_TRUE(mpg::test::eventually([&] { return begun == 9; }));
        for (int i = 0; i < 50; ++i) mpg::yield();
    });
    EXPECT_EQ(ended, 9);
    // Nobody is left in the queues.
    int v = 7;
    EXPECT_EQ(empty.try_send(v), mpg::chan_status::full);
    EXPECT_EQ(outlives.try_send(v), mpg::chan_status::full);
    EXPECT_EQ(full.recv(), 1);
    EXPECT_EQ(full.try_recv(v), mpg::chan_status::empty);
    EXPECT_EQ(full.try_send(v), mpg::chan_status::ok);
}

TEST_P(chan_stop, destructors_may_wait) {
    struct farewell {
        chan<int> to, answer;
        int* got;
        ~farewell() {
            to.send(1);
            *got = *answer.recv();
            mpg::select(on_recv(answer, [g = got](std::optional<int> v) { *g += *v; }));
        }
    };
    chan<int> to, answer;
    int got = 0;
    std::thread peer([=] { // another's strand: it is not stopped
        (void)to.recv();
        answer.send(5);
        answer.send(6);
    });
    run([&] {
        std::atomic<bool> begun{false};
        mpg::go([&] {
            farewell f{to, answer, &got};
            begun = true;
            (void)chan<int>().recv();
        });
        EXPECT_TRUE(mpg::test::eventually([&] { return begun.load(); }));
        for (int i = 0; i < 20; ++i) mpg::yield();
    });
    peer.join();
    EXPECT_EQ(got, 11);
}

TEST_P(chan_stop, while_foreign_threads_send_and_receive) {
    for (int round = 0; round < 10; ++round) {
        chan<std::shared_ptr<int>> c, d(2);
        std::atomic<bool> over{false};
        std::thread feeder([&] {
            auto p = std::make_shared<int>(1);
            while (!over) {
                auto v = p;
                (void)c.try_send(v);
                v = p;
                (void)d.try_send(v);
            }
        });
        std::thread drain([&] {
            std::shared_ptr<int> v;
            while (!over) (void)d.try_recv(v);
        });
        run([&] {
            for (int i = 0; i < 8; ++i)
                mpg::go([&, i] {
                    std::shared_ptr<int> v;
                    for (;;) {
                        if (i % 4 == 0) (void)c.recv();
                        if (i % 4 == 1) mpg::select(on_recv(c), on_recv(d), on_send(d, nullptr));
                        if (i % 4 == 2) (void)c.recv_for(v, 20us);
                        if (i % 4 == 3) d.send(nullptr);
                        mpg::yield(); // some of these never have to wait
                    }
                });
            for (int i = 0; i < 200; ++i) mpg::yield();
        });
        over = true;
        feeder.join();
        drain.join();
    }
}

} // namespace
