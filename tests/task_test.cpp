// go, spawn, task<R>, task_local, this_task.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/context.hpp>
#include <mpg/select.hpp>
#include <mpg/sync.hpp>
#include <mpg/time.hpp>

#include <atomic>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;

struct task : mpg::test::with_procs {};
MPG_TEST_PROCS(task);

bool is_invalid_argument(const std::system_error& e) { return e.code() == std::errc::invalid_argument; }

TEST_P(task, arguments_are_decay_copied) {
    run([] {
        int x = 1;
        const char text[] = "text";
        mpg::spawn(
            [](int copy, const char* pointer, int& reference) {
                copy = 2;
                reference = 3;
                EXPECT_STREQ(pointer, "text");
                EXPECT_EQ(copy, 2);
            },
            x, text, std::ref(x))
            .join();
        EXPECT_EQ(x, 3);
    });
}

TEST_P(task, callables_and_arguments_may_be_move_only) {
    run([] {
        auto a = std::make_unique<int>(20), b = std::make_unique<int>(22);
        auto t =
            mpg::spawn([a = std::move(a)](std::unique_ptr<int> c) { return std::make_unique<int>(*a + *c); },
                       std::move(b));
        EXPECT_EQ(*t.join(), 42);
    });
}

struct counter {
    int n = 0;
    int add(int k) { return n += k; }
};

TEST_P(task, callables_are_invoked_as_std_invoke_does) {
    run([] {
        counter c;
        EXPECT_EQ(mpg::spawn(&counter::add, &c, 5).join(), 5);
        EXPECT_EQ(c.n, 5);
    });
}

TEST_P(task, large_callables_are_kept_whole) {
    run([] {
        std::array<std::uint64_t, 100> big;
        for (std::size_t i = 0; i < big.size(); ++i) big[i] = i * i;
        mpg::wait_group ended;
        for (int k = 0; k < 100; ++k) {
            ended.add(1);
            mpg::go([big, &ended] {
                for (std::size_t i = 0; i < big.size(); ++i) EXPECT_EQ(big[i], i * i);
                ended.done();
            });
        }
        ended.wait();
    });
}

TEST_P(task, over_aligned_callables_are_aligned) {
    struct alignas(128) wide {
        char c = 'w';
    };
    run([] {
        mpg::spawn([w = wide{}] { EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&w) % 128, 0u); }).join();
    });
}

TEST_P(task, join_returns_the_value_or_rethrows) {
    run([] {
        EXPECT_EQ(mpg::spawn([] { return 7; }).join(), 7);
        mpg::spawn([] {}).join();
        auto failing = mpg::spawn([]() -> int { throw std::domain_error("no"); });
        EXPECT_THROW(failing.join(), std::domain_error);
        auto after_yields = mpg::spawn([] {
            for (int i = 0; i < 10; ++i) mpg::yield();
            return std::string("late");
        });
        EXPECT_EQ(after_yields.join(), "late");
    });
}

TEST_P(task, join_happens_after_all_that_the_task_did) {
    run([] {
        for (std::size_t i = 0; i < mpg::test::scaled(10'000); ++i) {
            std::size_t plain = 0;
            auto t = mpg::spawn([&] { plain = i + 1; });
            if (i % 3 == 0) mpg::yield();
            t.join();
            ASSERT_EQ(plain, i + 1);
        }
    });
}

TEST_P(task, handle_that_is_not_joinable_throws) {
    run([] {
        auto t = mpg::spawn([] { return 1; });
        EXPECT_TRUE(t.joinable());
        EXPECT_EQ(t.join(), 1);
        EXPECT_FALSE(t.joinable());
        try {
            t.join();
            ADD_FAILURE();
        } catch (const std::system_error& e) {
            EXPECT_TRUE(is_invalid_argument(e));
        }
        try {
            t.detach();
            ADD_FAILURE();
        } catch (const std::system_error& e) {
            EXPECT_TRUE(is_invalid_argument(e));
        }
        auto a = mpg::spawn([] { return 2; });
        auto b = std::move(a);
        EXPECT_FALSE(a.joinable());
        EXPECT_TRUE(b.joinable());
        EXPECT_EQ(b.join(), 2);
        auto d = mpg::spawn([] {});
        d.detach();
        EXPECT_FALSE(d.joinable());
        static_assert(!std::is_copy_constructible_v<mpg::task<int>>);
    });
}

TEST_P(task, assignment_detaches_the_old_one) {
    run([] {
        mpg::chan<int> c;
        auto t = mpg::spawn([c] { c.send(1); });
        t = mpg::spawn([c] { c.send(2); });
        int sum = c.recv().value();
        sum += c.recv().value();
        EXPECT_EQ(sum, 3);
        t.join();
    });
}

TEST_P(task, results_are_destroyed_once_joined_or_not) {
    static std::atomic<int> living{0};
    struct counted {
        counted() { ++living; }
        counted(counted&&) noexcept { ++living; }
        ~counted() { --living; }
    };
    run([] {
        for (int i = 0; i < 100; ++i) {
            auto joined = mpg::spawn([] { return counted(); });
            auto dropped = mpg::spawn([] { return counted(); });
            if (i % 2) mpg::yield();
            joined.join();
        }
    });
    EXPECT_EQ(living, 0);
}

TEST_P(task, done_closes_when_the_task_ends) {
    run([] {
        mpg::chan<void> hold;
        auto t = mpg::spawn([hold] { hold.recv(); });
        auto done = t.done();
        EXPECT_EQ(done.try_recv(), mpg::chan_status::empty);
        bool ended = false, missed = false;
        mpg::select(mpg::on_recv(done, [&](bool) { ended = true; }), mpg::otherwise([&] { missed = true; }));
        EXPECT_TRUE(missed);
        hold.close();
        mpg::select(mpg::on_recv(done, [&](bool ok) { ended = !ok; }), mpg::on_timeout(1h, [] {}));
        EXPECT_TRUE(ended);
        t.join();
        EXPECT_FALSE(done.recv());
    });
}

TEST_P(task, done_works_for_tasks_that_have_ended_and_for_detached_ones) {
    run([] {
        auto t = mpg::spawn([] {});
        auto early = t.done();
        EXPECT_FALSE(early.recv());
        EXPECT_FALSE(t.done().recv());
        t.detach();
        EXPECT_FALSE(early.recv());
        auto u = mpg::spawn([] { mpg::yield(); });
        auto done = u.done();
        u.detach();
        EXPECT_FALSE(done.recv());
    });
}

TEST_P(task, join_with_a_context_that_ends_first_leaves_it_joinable) {
    run([] {
        mpg::chan<void> hold;
        // Not started yet when it is joined: it may not be run on the joiner's stack, for the joiner must
        // come back.
        auto t = mpg::spawn([hold] {
            hold.recv();
            return 3;
        });
        auto timed = mpg::with_timeout(mpg::context::background(), 5ms);
        try {
            t.join(timed);
            ADD_FAILURE();
        } catch (const std::system_error& e) {
            EXPECT_EQ(e.code(), mpg::errc::deadline_exceeded);
        }
        EXPECT_TRUE(t.joinable());
        auto cancelled = mpg::with_cancel(mpg::context::background());
        cancelled.cancel();
        try {
            t.join(cancelled);
            ADD_FAILURE();
        } catch (const std::system_error& e) {
            EXPECT_EQ(e.code(), mpg::errc::cancelled);
        }
        hold.close();
        EXPECT_EQ(t.join(mpg::context::background()), 3);
    });
}

TEST_P(task, can_be_joined_from_a_plain_thread) {
    mpg::options o;
    o.procs = procs();
    mpg::runtime rt(o);
    for (int i = 0; i < 100; ++i) {
        auto t = rt.spawn([i] {
            if (i % 2) mpg::yield();
            if (i % 7 == 0) throw std::runtime_error("seventh");
            return i;
        });
        if (i % 7 == 0)
            EXPECT_THROW(t.join(), std::runtime_error);
        else
            EXPECT_EQ(t.join(), i);
    }
}

TEST_P(task, joins_nest_deeper_than_one_stack) {
    struct chain {
        static int depth(int n) { return n == 0 ? 0 : 1 + mpg::spawn(depth, n - 1).join(); }
    };
    constexpr int n = static_cast<int>(mpg::test::scaled(20'000));
    EXPECT_EQ(run([] { return chain::depth(n); }), n);
}

TEST_P(task, joins_form_trees) {
    struct tree {
        static std::int64_t sum(std::int64_t first, std::int64_t size) {
            if (size == 1) return first;
            auto left = mpg::spawn(sum, first, size / 2);
            auto right = mpg::spawn(sum, first + size / 2, size - size / 2);
            return left.join() + right.join();
        }
    };
    constexpr auto n = static_cast<std::int64_t>(mpg::test::scaled(20'000));
    EXPECT_EQ(run([] { return tree::sum(0, n); }), n * (n - 1) / 2);
}

TEST_P(task, joined_task_is_itself_wherever_it_runs) {
    run([] {
        static mpg::task_local<int> local;
        local.set(1);
        mpg::this_task::set_name("parent");
        auto id = mpg::this_task::id();
        auto child = mpg::spawn([] {
            EXPECT_EQ(*local, 0);
            local.set(2);
            EXPECT_NE(mpg::this_task::name(), "parent");
            mpg::this_task::set_name("child");
            EXPECT_EQ(std::uncaught_exceptions(), 0);
            EXPECT_EQ(std::current_exception(), nullptr);
            return mpg::this_task::id();
        });
        auto child_id = child.id();
        EXPECT_EQ(child.join(), child_id);
        EXPECT_NE(child_id, id);
        EXPECT_EQ(mpg::this_task::id(), id);
        EXPECT_EQ(mpg::this_task::name(), "parent");
        EXPECT_EQ(*local, 1);
    });
}

TEST_P(task, joined_in_a_handler_or_a_destructor_sees_no_exception) {
    struct joins {
        ~joins() {
            EXPECT_EQ(std::uncaught_exceptions(), 1);
            EXPECT_EQ(mpg::spawn([] { return std::uncaught_exceptions(); }).join(), 0);
            EXPECT_EQ(std::uncaught_exceptions(), 1);
        }
    };
    run([] {
        try {
            joins j;
            throw 1;
        } catch (int) {
            EXPECT_TRUE(mpg::spawn([] {
                            bool none = std::current_exception() == nullptr;
                            try {
                                throw std::runtime_error("inner");
                            } catch (const std::runtime_error&) {
                                mpg::yield();
                            }
                            return none;
                        }).join());
            try {
                throw; // still the outer one
            } catch (int v) {
                EXPECT_EQ(v, 1);
            }
        }
    });
}

TEST_P(task, ids_are_unique) {
    run([] {
        std::vector<mpg::task<std::uint64_t>> tasks;
        for (int i = 0; i < 500; ++i) tasks.push_back(mpg::spawn([] { return mpg::this_task::id(); }));
        std::set<std::uint64_t> ids{mpg::this_task::id()};
        for (auto& t : tasks) {
            auto id = t.id();
            EXPECT_EQ(t.join(), id);
            EXPECT_TRUE(ids.insert(id).second);
        }
    });
}

TEST_P(task, names_stay_with_the_task) {
    run([] {
        mpg::wait_group ended;
        for (int i = 0; i < 50; ++i) {
            ended.go([i] {
                std::string name = "worker with a rather long name, number " + std::to_string(i);
                mpg::this_task::set_name(name);
                for (int k = 0; k < 20; ++k) {
                    mpg::yield();
                    EXPECT_EQ(mpg::this_task::name(), name);
                }
            });
        }
        ended.wait();
        mpg::spawn([] { EXPECT_EQ(mpg::this_task::name().find("worker"), std::string::npos); }).join();
    });
}

TEST_P(task, locals_belong_to_the_task_and_die_with_it) {
    static std::atomic<int> living{0};
    struct counted {
        int value = 0;
        counted() { ++living; }
        counted(const counted& o)
            : value(o.value) {
            ++living;
        }
        counted& operator=(const counted&) = default;
        ~counted() { --living; }
    };
    static mpg::task_local<int> number;
    static mpg::task_local<counted> object;
    run([] {
        mpg::wait_group ended;
        for (int i = 1; i <= 50; ++i) {
            ended.go([i] {
                EXPECT_EQ(*number, 0);
                EXPECT_EQ(object.get().value, 0);
                number.set(i);
                object.get().value = -i;
                for (int k = 0; k < 10; ++k) {
                    mpg::yield();
                    EXPECT_EQ(number.get(), i);
                    EXPECT_EQ((*object).value, -i);
                }
            });
        }
        ended.wait();
    });
    EXPECT_EQ(living, 0);
}

TEST_P(task, many_short_ones_all_run) {
    const int n = static_cast<int>(mpg::test::scaled(100'000));
    std::atomic<int> ran{0};
    run([&] {
        mpg::wait_group ended;
        ended.add(n);
        for (int i = 0; i < n; ++i) {
            mpg::go([&] {
                ran.fetch_add(1, std::memory_order_relaxed);
                ended.done();
            });
        }
        ended.wait();
    });
    EXPECT_EQ(ran, n);
}

TEST_P(task, exception_that_leaves_go_terminates_and_names_the_task) {
    auto child = mpg::test::run_in_child([&] {
        run([] {
            mpg::go([] {
                mpg::this_task::set_name("thrower");
                throw std::runtime_error("what it says");
            });
            mpg::chan<void>().recv();
        });
    });
    EXPECT_EQ(child.signal, SIGABRT) << child;
    EXPECT_NE(child.err.find("thrower"), std::string::npos) << child;
    EXPECT_NE(child.err.find("what it says"), std::string::npos) << child;
}

TEST_P(task, exception_of_no_standard_type_terminates_too) {
    auto child = mpg::test::run_in_child([&] {
        run([] {
            mpg::go([] { throw 42; });
            mpg::chan<void>().recv();
        });
    });
    EXPECT_EQ(child.signal, SIGABRT) << child;
}

} // namespace
