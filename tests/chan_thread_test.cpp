// Plain threads on channels: there the OS thread waits.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/select.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

using mpg::chan;
using mpg::chan_status;
using mpg::on_recv;
using mpg::on_send;
using namespace std::chrono_literals;

struct chan_threads : mpg::test::with_procs {};
MPG_TEST_PROCS(chan_threads);

TEST(chan_threads_alone, meet_without_a_runtime) {
    for (std::size_t cap : {0u, 1u, 10u}) {
        chan<std::string> c(cap);
        std::thread sender([c] {
            for (int i = 0; i < 2000; ++i) c.send(std::to_string(i));
            c.close();
        });
        int n = 0;
        for (auto& s : c) EXPECT_EQ(s, std::to_string(n++));
        EXPECT_EQ(n, 2000);
        sender.join();
    }
}

TEST(chan_threads_alone, select_without_a_runtime) {
    chan<int> a, b;
    chan<void> done;
    std::thread peer([=] {
        for (int i = 0; i < 1000; ++i) mpg::select(on_send(a, 1), on_send(b, 2));
        done.close();
    });
    int n = 0;
    for (bool going = true; going;)
        mpg::select(on_recv(a, [&](auto) { ++n; }), on_recv(b, [&](auto) { ++n; }),
                    on_recv(done, [&](bool) { going = false; }));
    EXPECT_EQ(n, 1000);
    peer.join();
}

TEST(chan_threads_alone, timed_waits_need_no_runtime) {
    chan<int> c;
    int v = 0;
    EXPECT_EQ(c.recv_for(v, 1ms), chan_status::timeout);
    EXPECT_EQ(c.send_for(v, 1ms), chan_status::timeout);
    EXPECT_EQ(mpg::select(on_recv(c), mpg::on_timeout(1ms)), 1u);
    EXPECT_EQ(mpg::select(mpg::on_timeout(1ms)), 0u);
    EXPECT_EQ(c.try_send(v), chan_status::full); // and leaves nothing in the queue
    EXPECT_EQ(c.recv_for(v, 0ms), chan_status::timeout);
    std::thread sender([c] { c.send(3); });
    EXPECT_EQ(c.recv_for(v, 1h), chan_status::ok);
    EXPECT_EQ(v, 3);
    sender.join();
}

TEST(chan_threads_alone, timed_waits_outlive_the_runtime) {
    auto rt = std::make_unique<mpg::runtime>(mpg::options{.procs = 2});
    chan<void> comes;
    std::atomic<bool> gone = false;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([comes, i, &gone] {
            chan<int> c;
            int v = 0;
            comes.send();
            while (!gone) // what is under way when the runtime ends, comes to its end, too
                i % 2 ? void(c.recv_for(v, 20ms)) : void(mpg::select(on_recv(c), mpg::on_timeout(20ms)));
        });
    for (std::size_t i = 0; i < threads.size(); ++i) comes.recv();
    rt.reset();
    gone = true;
    for (auto& t : threads) t.join();
}

TEST_P(chan_threads, both_directions) {
    run([] {
        for (std::size_t cap : {0u, 3u}) {
            chan<int> to_thread(cap), to_task(cap);
            std::thread t([=] {
                for (int v : to_thread) to_task.send(v * 2);
                to_task.close();
            });
            for (int i = 0; i < 500; ++i) {
                to_thread.send(i);
                EXPECT_EQ(to_task.recv(), 2 * i);
            }
            to_thread.close();
            EXPECT_EQ(to_task.recv(), std::nullopt);
            mpg::blocking([&] { t.join(); });
        }
    });
}

TEST_P(chan_threads, timed_and_selecting_threads) {
    run([] {
        chan<int> c, nil = nullptr;
        std::atomic<long> got{0};
        std::vector<std::thread> threads;
        for (int k = 0; k < 2; ++k)
            threads.emplace_back([&, k] {
                for (;;) {
                    int v = 0;
                    chan_status s = chan_status::timeout;
                    if (k == 0)
                        s = c.recv_for(v, 50us);
                    else
                        mpg::select(on_recv(c,
                                            [&](std::optional<int> x) {
                                                s = x ? chan_status::ok : chan_status::closed;
                                                v = x.value_or(0);
                                            }),
                                    on_recv(nil), mpg::on_timeout(50us));
                    if (s == chan_status::closed) return;
                    if (s == chan_status::ok) got += v;
                }
            });
        long sent = 0;
        for (int i = 0; i < 2000; ++i) {
            c.send(i);
            sent += i;
        }
        c.close();
        mpg::blocking([&] {
            for (auto& t : threads) t.join();
        });
        EXPECT_EQ(got, sent);
    });
}

TEST_P(chan_threads, many_threads_and_tasks) {
    run([] {
        chan<int> c(4);
        std::atomic<long> sent{0}, got{0};
        std::atomic<int> senders{6};
        auto send = [&, c](int id) {
            for (int i = 0; i < 400; ++i) {
                c.send(id * 1000 + i);
                sent += id * 1000 + i;
            }
            if (--senders == 0) c.close();
        };
        auto recv = [&, c] {
            for (int v : c) got += v;
        };
        std::vector<std::thread> threads;
        std::vector<mpg::task<void>> tasks;
        for (int i = 0; i < 3; ++i) {
            threads.emplace_back(send, i);
            threads.emplace_back(recv);
            tasks.push_back(mpg::spawn(send, 10 + i));
            tasks.push_back(mpg::spawn(recv));
        }
        for (auto& t : tasks) t.join();
        mpg::blocking([&] {
            for (auto& t : threads) t.join();
        });
        EXPECT_EQ(sent, got);
    });
}

} // namespace
