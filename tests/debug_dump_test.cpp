// debug::dump_tasks: what it says of tasks that wait, run, block, and end meanwhile.
// ctest: lines
#include "support.hpp"

#include <mpg/debug.hpp>
#include <mpg/mpg.hpp>

#include <cstdlib>
#include <sstream>

namespace {

using namespace std::chrono_literals;

[[gnu::noinline]] std::string dump() {
    std::ostringstream os;
    mpg::debug::dump_tasks(os);
    return os.str();
}
/// The paragraph that has all the words.
bool has_paragraph(const std::string& text, std::initializer_list<const char*> words) {
    for (std::size_t at = 0; at < text.size();) {
        std::size_t end = text.find("\n\n", at);
        std::string p = text.substr(at, end - at);
        bool all = true;
        for (const char* w : words) all = all && p.find(w) != std::string::npos;
        if (all) return true;
        if (end == std::string::npos) return false;
        at = end + 2;
    }
    return false;
}

[[gnu::noinline]] int deepest(mpg::chan<int>& c) {
    int v = c.recv().value_or(0);
    asm volatile("" : "+r"(v));
    return v + 1;
}
[[gnu::noinline]] int middle(mpg::chan<int>& c) {
    int v = deepest(c);
    asm volatile("" : "+r"(v));
    return v + 1;
}
[[gnu::noinline]] void starter(mpg::chan<int>& c) {
    mpg::go([&c] {
        mpg::this_task::set_name("waits for ever");
        middle(c);
    });
    asm volatile("");
}

struct dump_tasks : mpg::test::with_procs {};
MPG_TEST_PROCS(dump_tasks);

TEST_P(dump_tasks, shows_who_waits_for_what_where_and_who_started_it) {
    run([] {
        mpg::chan<int> c;
        starter(c);
        std::string text;
        ASSERT_TRUE(mpg::test::eventually([&] {
            text = dump();
            return has_paragraph(text, {"\"waits for ever\" [waiting: chan receive"});
        }));
        EXPECT_TRUE(has_paragraph(text, {"waits for ever", "deepest(", "middle(", "created by task", "starter("})) << text;
        // The one that asks is there, too, with its stack.
        EXPECT_TRUE(has_paragraph(text, {"[running]", "dump"})) << text;
        c.send(1);
    });
}

// All of it is inlined into the function that runs a task: debug information has to tell.
TEST_P(dump_tasks, names_the_place_where_a_task_was_started_by_a_task_of_a_task) {
    run([] {
        mpg::chan<int> c;
        mpg::wait_group g;
        const int line = __LINE__;
        g.go([&] {
            mpg::this_task::set_name("outer");
            mpg::task<void> t = mpg::spawn([&] {
                mpg::this_task::set_name("middle");
                mpg::go([&] {
                    mpg::this_task::set_name("inner");
                    (void)c.recv();
                });
                (void)c.recv();
            });
            (void)c.recv();
            t.join();
        });
        std::string text;
        ASSERT_TRUE(mpg::test::eventually([&] {
            text = dump();
            return has_paragraph(text, {"\"outer\" [waiting: chan r"}) && has_paragraph(text, {"\"middle\" [waiting"}) &&
                   has_paragraph(text, {"\"inner\" [waiting"});
        }));
        auto site = [&](const std::string& name) {
            std::size_t at = text.find("\"" + name + "\" [waiting");
            at = text.find(" at ", at);
            return text.substr(at, text.find('\n', at) - at);
        };
        // The line of the call, or of its end: compilers differ.
        auto is_at = [&](const std::string& name, int first, int last) {
            const std::string s = site(name);
            const std::size_t colon = s.rfind("debug_dump_test.cpp:");
            if (colon == std::string::npos) return false;
            const int n = std::atoi(s.c_str() + colon + 20);
            return n >= first && n <= last;
        };
        EXPECT_TRUE(is_at("outer", line + 1, line + 12)) << site("outer");
        EXPECT_TRUE(is_at("middle", line + 3, line + 10)) << site("middle");
        EXPECT_TRUE(is_at("inner", line + 5, line + 8)) << site("inner");
        c.close();
        g.wait();
    });
}

[[gnu::noinline]] void computes(const std::atomic<bool>& enough) {
    while (!enough.load(std::memory_order_relaxed)) asm volatile("");
}
[[gnu::noinline]] void sits_in_a_system_call(int fd) {
    char byte;
    EXPECT_EQ(::read(fd, &byte, 1), 1); // no EINTR, either
    asm volatile("");
}

TEST_P(dump_tasks, shows_stacks_of_tasks_that_run_and_that_block) {
    // There nobody is frozen, so the task that computes would keep the only P.
    if (procs() == 1 && (mpg::base::asan || mpg::base::tsan)) return;
    int pipe[2];
    ASSERT_EQ(::pipe(pipe), 0);
    run([&] {
        std::atomic<bool> enough{false};
        auto a = mpg::spawn([&] { computes(enough); });
        auto b = mpg::spawn([&] { mpg::blocking([&] { sits_in_a_system_call(pipe[0]); }); });
        std::string text;
        EXPECT_TRUE(mpg::test::eventually([&] {
            text = dump();
            // In a system call the frame pointer is not known, so code that has one (as under sanitizers) ends the stack.
            const bool whole = !mpg::base::asan && !mpg::base::tsan;
            return has_paragraph(text, {"[running]", "computes("}) &&
                   has_paragraph(text, {"[blocking", "read", whole ? "sits_in_a_system_call(" : ""});
        })) << text;
        enough = true;
        EXPECT_EQ(::write(pipe[1], "x", 1), 1);
        a.join();
        b.join();
    });
    ::close(pipe[0]);
    ::close(pipe[1]);
}

TEST_P(dump_tasks, shows_stacks_of_tasks_that_were_frozen) {
    if (mpg::base::asan || mpg::base::tsan) return; // nobody is frozen there
    run([&] {
        std::atomic<bool> enough{false};
        mpg::wait_group hogs;
        for (unsigned i = 0; i < 3 * procs() && i < 12; ++i) hogs.go([&] { computes(enough); });
        std::string text;
        if (procs() <= 4) {
            EXPECT_TRUE(mpg::test::eventually([&] {
                text = dump();
                return has_paragraph(text, {"[frozen", "computes("});
            })) << text;
        }
        enough = true;
        hogs.wait();
    });
}

TEST_P(dump_tasks, puts_equal_stacks_together_and_is_quick) {
    const std::size_t n = mpg::base::tsan ? 2'000 : mpg::test::scaled(100'000); // a task costs 100 times as much there
    mpg::options o;
    o.stack_size = 64 << 10;
    run(o, [&] {
        mpg::chan<int> c;
        mpg::wait_group ready;
        ready.add(static_cast<std::ptrdiff_t>(n));
        for (std::size_t i = 0; i < n; ++i)
            mpg::go([&] {
                ready.done();
                middle(c);
            });
        ready.wait();
        const auto start = std::chrono::steady_clock::now();
        std::string text = dump();
        const auto took = std::chrono::steady_clock::now() - start;
        std::size_t heads = 0;
        for (std::size_t at = 0; (at = text.find("[waiting: chan receive", at)) != std::string::npos; ++at) ++heads;
        EXPECT_GE(heads, n - 64); // each P may still have some on their way to the wait
        EXPECT_NE(text.find("tasks with this stack"), std::string::npos);
        EXPECT_LT(took, 30s) << "for " << n << " tasks";
        RecordProperty("milliseconds", std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()));
        std::cout << n << " tasks in " << std::chrono::duration_cast<std::chrono::milliseconds>(took).count() << " ms\n";
        for (std::size_t i = 0; i < n; ++i) c.send(1);
    });
}

// Tasks that come, go and switch as fast as they can: every stack that is shown must be one that could be.
TEST_P(dump_tasks, shows_no_torn_stack) {
    run([] {
        std::atomic<bool> enough{false};
        mpg::wait_group all;
        mpg::chan<int> ping, pong;
        all.go([&] {
            while (!enough) {
                ping.send(1);
                middle(pong);
            }
            ping.close();
        });
        all.go([&] {
            while (ping.recv()) pong.send(1);
        });
        all.go([&] {
            while (!enough) {
                mpg::spawn([] { mpg::yield(); }).join();
                mpg::yield();
            }
        });
        for (std::size_t i = 0; i < mpg::test::scaled(300); ++i) {
            mpg::debug::snapshot shot = mpg::debug::take_snapshot();
            for (const auto& t : shot.tasks) {
                ASSERT_LT(t.stack, shot.stacks.size());
                if (t.stack == 0 || t.state == mpg::sched::task_state::running) continue;
                EXPECT_TRUE(shot.whole[t.stack]) << "task " << t.id << " " << shot.stacks[t.stack].size() << " frames";
            }
            mpg::yield();
        }
        enough = true;
        all.wait();
    });
}

TEST(dump_tasks_alone, without_a_runtime_says_nothing) { EXPECT_EQ(dump(), ""); }

TEST(dump_tasks_alone, may_be_called_by_a_plain_thread_while_runtimes_come_and_go) {
    std::atomic<bool> enough{false};
    std::thread dumper([&] {
        while (!enough) (void)dump();
    });
    for (int i = 0; i < 20; ++i)
        mpg::run([] {
            mpg::wait_group g;
            for (int k = 0; k < 20; ++k) g.go([] { mpg::yield(); });
            g.wait();
        });
    enough = true;
    dumper.join();
}

TEST(reports, of_a_deadlock_has_stacks) {
    auto c = mpg::test::run_in_child([] {
        mpg::run([] {
            mpg::chan<int> nobody_sends;
            middle(nobody_sends);
        });
    });
    EXPECT_EQ(c.exit_code, 2) << c;
    EXPECT_EQ(c.err.find("fatal error: all tasks are asleep - deadlock!"), 0u) << c;
    EXPECT_NE(c.err.find("middle("), std::string::npos) << c;
}

[[gnu::noinline]] void starts_a_thrower() {
    mpg::go([] { throw std::runtime_error("so it goes"); });
    asm volatile("");
}

TEST(reports, of_an_exception_names_the_place) {
    auto c = mpg::test::run_in_child([] {
        mpg::run([] {
            starts_a_thrower();
            mpg::select();
        });
    });
    EXPECT_EQ(c.signal, SIGABRT) << c;
    EXPECT_NE(c.err.find("so it goes"), std::string::npos) << c;
    EXPECT_NE(c.err.find("debug_dump_test.cpp"), std::string::npos) << c;
}

} // namespace
