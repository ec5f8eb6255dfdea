// debug::leaks, debug::dump_on.
// ctest: lines
#include "support.hpp"

#include <mpg/debug.hpp>
#include <mpg/mpg.hpp>

#include <csignal>
#include <cstdio>
#include <sstream>
#include <sys/mman.h>
#include <sys/stat.h>

namespace {

using namespace std::chrono_literals;

[[gnu::noinline]] void leaks_one(mpg::chan<int> c) {
    mpg::go([c] { (void)c.recv(); });
    asm volatile("");
}

struct leaks : mpg::test::with_procs {};
MPG_TEST_PROCS(leaks);

TEST_P(leaks, are_grouped_by_where_they_were_started) {
    run([] {
        mpg::chan<int> c;
        for (int i = 0; i < 5; ++i) leaks_one(c);
        mpg::go([] { mpg::select(); });
        std::vector<mpg::debug::leak> found;
        ASSERT_TRUE(mpg::test::eventually([&] {
            found = mpg::debug::leaks(0ns);
            return found.size() >= 2 && found[0].count == 5;
        }));
        EXPECT_NE(found[0].created_at.find("leaks_one"), std::string::npos) << found[0].created_at;
        EXPECT_EQ(found[0].reason, mpg::sched::wait_reason::chan_recv);
        EXPECT_EQ(found[0].ids.size(), 5u);
        EXPECT_FALSE(found[0].for_ever);
        // An hour is not over, but nothing will ever end a select of no case.
        found = mpg::debug::leaks(1h);
        ASSERT_EQ(found.size(), 1u);
        EXPECT_TRUE(found[0].for_ever);
        EXPECT_EQ(found[0].reason, mpg::sched::wait_reason::select_no_cases);
        c.close();
    });
}

TEST_P(leaks, waits_get_longer) {
    run([] {
        mpg::chan<int> c;
        leaks_one(c);
        ASSERT_TRUE(mpg::test::eventually([&] { return !mpg::debug::leaks(20ms).empty(); }));
        auto l = mpg::debug::leaks(20ms).at(0);
        EXPECT_GE(l.oldest, 20ms);
        EXPECT_GE(l.oldest, l.youngest);
        c.close();
    });
}

TEST_P(leaks, are_watched) {
    run([] {
        mpg::chan<int> c;
        mpg::chan<std::string> lines(100);
        {
            mpg::debug::leak_watch watch({.period = 5ms, .limit = 0ns, .least = 3, .log = [&](const std::string& l) {
                                              std::string line = l;
                                              if (line.find("leaks_one") != std::string::npos) (void)lines.try_send(line);
                                          }});
            for (int i = 0; i < 3; ++i) leaks_one(c);
            // Tasks may come to their wait one after the other: then fewer than 3 are not told, and the first line says all.
            std::string line = lines.recv().value_or("");
            EXPECT_EQ(line.find("leak: 3 tasks (+"), 0u) << line;
            EXPECT_NE(line.find(" in 5 ms) [chan receive, up to "), std::string::npos) << line;
            EXPECT_NE(line.find("leaks_one("), std::string::npos) << line;
            for (int i = 0; i < 4; ++i) leaks_one(c);
            int grown = 0, told = 3;
            while (told < 7) {
                line = lines.recv().value_or("");
                ASSERT_EQ(std::sscanf(line.c_str(), "leak: %d tasks (+%d in 5 ms)", &told, &grown), 2) << line;
                EXPECT_TRUE(told <= 7 && grown > 0) << line;
            }
            std::ostringstream os;
            mpg::debug::report_leaks(os, 0ns);
            EXPECT_NE(os.str().find(" 7, a look every 5 ms\n"), std::string::npos) << os.str();
        }
        EXPECT_EQ(lines.size(), 0u); // what does not grow is not told again
        c.close();
    });
}

TEST(dump_on, writes_the_tasks_when_the_signal_comes) {
    auto child = mpg::test::run_in_child([] {
        const int err = ::memfd_create("stderr", MFD_CLOEXEC), real = ::dup(2);
        ::dup2(err, 2);
        mpg::run([] {
            mpg::chan<int> c;
            leaks_one(c);
            mpg::debug::dump_on(SIGQUIT);
            while (mpg::runtime::current()->stats().tasks_waiting < 2) mpg::yield();
            ::raise(SIGQUIT);
            EXPECT_TRUE(mpg::test::eventually([&] {
                struct ::stat s{};
                return ::fstat(2, &s) == 0 && s.st_size > 0;
            }));
        });
        char text[64 << 10];
        ::ssize_t n = ::pread(err, text, sizeof text, 0);
        return n > 0 && ::write(real, text, static_cast<std::size_t>(n)) == n ? 0 : 1;
    });
    EXPECT_EQ(child.exit_code, 0) << child;
    EXPECT_NE(child.err.find("[waiting: chan receive"), std::string::npos) << child;
    EXPECT_NE(child.err.find("leaks_one"), std::string::npos) << child;
}

} // namespace
